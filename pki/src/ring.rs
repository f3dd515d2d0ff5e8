//! The authorities of a cluster while they are changed: those that sign, and beside them, for a time, those that come
//! or go. Whoever changes them does it in this order, on all masters (`docs/decisions/0011`):
//!
//! 1. [`Phase::Trust`]: new authorities are there and believed; the old ones still sign.
//! 2. [`Phase::Sign`]: the new ones sign; the old ones are still believed, and have signed for the new ones, so that
//!    whoever knows only the old ones believes what the new ones sign.
//! 3. [`Phase::Done`]: the old ones are gone.
//!
//! On disk: the files of [`ClusterKeys`] are always the keys that sign, and `rotation.json` beside them has both sets,
//! the generation and the phase. It is replaced as a whole, and where the two differ it is right.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::authority::{Authority, public_key_hash};
use crate::error::Error;
use crate::files;
use crate::keys::ClusterKeys;

/// Name of the file beside those of [`ClusterKeys`]. It is not there before the first change.
pub const ROTATION_FILE: &str = "rotation.json";

/// Version of the file's form.
const VERSION: u32 = 1;

/// So many pins of authorities that are gone are remembered, to recognise what was theirs.
const PAST_MAX: usize = 16;

/// How far a change of the authorities is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The new ones are believed.
    Trust,
    /// The new ones sign.
    Sign,
    /// Only the new ones are there.
    Done,
}

impl Phase {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Sign => "sign",
            Self::Done => "done",
        }
    }
}

/// See the module. `Debug` shows no key.
pub struct KeyRing {
    generation: u64,
    phase: Phase,
    /// What signs.
    keys: ClusterKeys,
    /// What is believed beside it: what comes in [`Phase::Trust`], what goes in [`Phase::Sign`].
    other: Option<ClusterKeys>,
    past: Vec<String>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, phase, .. } = self;
        f.debug_struct("KeyRing")
            .field("generation", generation)
            .field("phase", phase)
            .finish_non_exhaustive()
    }
}

/// Which authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circle {
    /// Clients, nodes, and the API.
    Cluster,
    /// Masters among themselves.
    Peer,
}

/// What `rotation.json` says.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    version: u32,
    generation: u64,
    phase: Phase,
    /// Files of the keys that go; empty once they are gone.
    #[serde(default)]
    old: BTreeMap<String, String>,
    /// Files of the keys that come; empty once there are no others.
    #[serde(default)]
    new: BTreeMap<String, String>,
    #[serde(default)]
    past: Vec<String>,
}

impl KeyRing {
    /// One generation of keys: the first.
    #[must_use]
    pub fn new(keys: ClusterKeys) -> Self {
        Self { generation: 1, phase: Phase::Done, keys, other: None, past: Vec::new() }
    }

    /// Which generation the newest keys are.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How far the change to that generation is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The keys that sign.
    #[must_use]
    pub fn keys(&self) -> &ClusterKeys {
        &self.keys
    }

    /// What is believed beside the keys that sign, with the phase that says whether it comes or goes.
    #[must_use]
    pub fn other(&self) -> Option<(Phase, &ClusterKeys)> {
        self.other.as_ref().map(|other| (self.phase, other))
    }

    /// The newest keys, whether they sign yet or not.
    #[must_use]
    pub fn newest(&self) -> &ClusterKeys {
        match (self.phase, &self.other) {
            (Phase::Trust, Some(new)) => new,
            _ => &self.keys,
        }
    }

    /// A number that grows with each step: what was made under a smaller one is to be made anew.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.generation * 4 + self.phase as u64
    }

    /// Step 1: new keys come. A change before that was not finished is finished by it: its old keys go, and are
    /// remembered.
    ///
    /// # Errors
    /// When the keys that sign now do not parse.
    pub fn with_next(&self, next: ClusterKeys, generation: u64) -> Result<Self, Error> {
        let before = self.finished()?;
        Ok(Self {
            generation,
            phase: Phase::Trust,
            keys: before.keys,
            other: Some(next),
            past: before.past,
        })
    }

    /// Step 2: the new keys sign. The same ring when they do already.
    ///
    /// # Errors
    /// When the keys do not parse.
    pub fn signing(&self) -> Result<Self, Error> {
        let Some(other) = &self.other else { return self.copy() };
        if self.phase != Phase::Trust {
            return self.copy();
        }
        Ok(Self {
            generation: self.generation,
            phase: Phase::Sign,
            keys: copy(other)?,
            other: Some(copy(&self.keys)?),
            past: self.past.clone(),
        })
    }

    /// Step 3: the old keys go. The same ring when there are none, or when they sign.
    ///
    /// # Errors
    /// When the keys do not parse.
    pub fn finished(&self) -> Result<Self, Error> {
        let Some(old) = self.other.as_ref().filter(|_| self.phase == Phase::Sign) else {
            return self.copy();
        };
        let mut past = self.past.clone();
        past.push(old.pin()?);
        past.drain(..past.len().saturating_sub(PAST_MAX));
        Ok(Self {
            generation: self.generation,
            phase: Phase::Done,
            keys: copy(&self.keys)?,
            other: None,
            past,
        })
    }

    fn copy(&self) -> Result<Self, Error> {
        Ok(Self {
            generation: self.generation,
            phase: self.phase,
            keys: copy(&self.keys)?,
            other: self.other.as_ref().map(copy).transpose()?,
            past: self.past.clone(),
        })
    }

    fn authorities(&self, circle: Circle) -> Vec<&Authority> {
        let all = std::iter::once(&self.keys).chain(&self.other);
        all.map(|keys| match circle {
            Circle::Cluster => &keys.cluster,
            Circle::Peer => &keys.peer,
        })
        .collect()
    }

    /// The certificates of all authorities that are believed, the one that signs first.
    #[must_use]
    pub fn bundle_pem(&self, circle: Circle) -> String {
        self.authorities(circle).iter().map(|authority| authority.certificate_pem()).collect()
    }

    /// What is shown with a certificate that the signing authority has issued: so that whoever knows any of the
    /// authorities believes it.
    ///
    /// # Errors
    /// When keys do not parse.
    pub fn chain_pem(&self, circle: Circle, certificate_pem: &str) -> Result<String, Error> {
        let all = self.authorities(circle);
        let mut chain = certificate_pem.to_owned();
        if let (Phase::Sign, [new, old]) = (self.phase, all.as_slice()) {
            // Before the new one's own: some clients take the first of the name, and look no further.
            chain.push_str(&old.vouch_for(new)?);
            chain.push_str(new.certificate_pem());
            chain.push_str(old.certificate_pem());
        } else {
            chain.extend(all.first().map(|authority| authority.certificate_pem()));
        }
        Ok(chain)
    }

    /// What join tokens may pin: the hash of each cluster authority's public key, the one that signs first.
    ///
    /// # Errors
    /// When a certificate does not parse.
    pub fn pins(&self) -> Result<Vec<String>, Error> {
        let all = self.authorities(Circle::Cluster);
        all.iter()
            .map(|one| public_key_hash(&crate::authority::der_of_pem(one.certificate_pem())?))
            .collect()
    }

    /// Whether these keys are, or once were, those that a pin names.
    ///
    /// # Errors
    /// When a certificate does not parse.
    pub fn is_of(&self, pin: &str) -> Result<bool, Error> {
        Ok(self.past.iter().any(|past| past == pin) || self.pins()?.iter().any(|own| own == pin))
    }

    /// Name and content of each file.
    #[must_use]
    pub fn to_files(&self) -> Vec<(String, String)> {
        let mut all = self.keys.to_files();
        all.extend(self.on_disk().map(|text| (ROTATION_FILE.to_owned(), text)));
        all
    }

    /// `None` before the first change.
    fn on_disk(&self) -> Option<String> {
        let own = || self.keys.to_files().into_iter().collect();
        let other = || self.other.iter().flat_map(ClusterKeys::to_files).collect();
        let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = match (self.phase, &self.other) {
            (Phase::Done, _) | (_, None) if self.generation == 1 => return None,
            (Phase::Trust, Some(_)) => (own(), other()),
            (Phase::Sign, Some(_)) => (other(), own()),
            (Phase::Done, _) | (_, None) => (BTreeMap::new(), BTreeMap::new()),
        };
        let (generation, phase, past) = (self.generation, self.phase, self.past.clone());
        let all = OnDisk { version: VERSION, generation, phase, old, new, past };
        let mut text = serde_json::to_string_pretty(&all).ok()?;
        text.push('\n');
        Some(text)
    }

    /// From the content of each file, wherever it is; `rotation` is that of [`ROTATION_FILE`], if there is one.
    ///
    /// # Errors
    /// Those of `read`, and when one does not parse.
    pub fn from_files(
        read: impl Fn(&str) -> Result<String, Error>,
        rotation: Option<&str>,
    ) -> Result<Self, Error> {
        let Some(text) = rotation else { return Ok(Self::new(ClusterKeys::from_files(read)?)) };
        let damaged =
            |why: &dyn fmt::Display| Error::Refused(format!("{ROTATION_FILE} is damaged: {why}"));
        let form: serde_json::Value = serde_json::from_str(text).map_err(|e| damaged(&e))?;
        if form["version"].as_u64() != Some(u64::from(VERSION)) {
            return Err(Error::Refused(format!(
                "{ROTATION_FILE} was written by a newer Quorate: use that version"
            )));
        }
        let all: OnDisk = serde_json::from_value(form).map_err(|error| damaged(&error))?;
        let OnDisk { generation, phase, old, new, past, .. } = all;
        if phase == Phase::Done {
            let keys = ClusterKeys::from_files(read)?;
            return Ok(Self { generation, phase, keys, other: None, past });
        }
        let of = |files: &BTreeMap<String, String>| {
            ClusterKeys::from_files(|name| {
                let missing = || damaged(&format!("it has no {name}"));
                files.get(name).cloned().ok_or_else(missing)
            })
        };
        let (old, new) = (of(&old)?, of(&new)?);
        let (keys, other) = if phase == Phase::Trust { (old, new) } else { (new, old) };
        Ok(Self { generation, phase, keys, other: Some(other), past })
    }

    /// Reads them from a directory.
    ///
    /// # Errors
    /// When a file is missing or does not parse.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let file = directory.join(ROTATION_FILE);
        let rotation = if file.exists() { Some(files::read(&file)?) } else { None };
        Self::from_files(|name| files::read(&directory.join(name)), rotation.as_deref())
    }

    /// Writes them below a directory, each file mode 0600 and replaced as a whole; ended at any point, what is loaded
    /// then is either what was there or these.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, directory: &Path) -> Result<(), Error> {
        files::create_private_dir(directory)?;
        let rotation = self.on_disk();
        let write =
            |text: &str| files::write_private(&directory.join(ROTATION_FILE), text.as_bytes());
        // While both sets are in it, it is right whatever stands in the other files; else those come first.
        match (&rotation, self.phase) {
            (Some(text), Phase::Trust | Phase::Sign) => {
                write(text)?;
                self.keys.save(directory)
            }
            (Some(text), Phase::Done) => {
                self.keys.save(directory)?;
                write(text)
            }
            (None, _) => {
                // Of keys that were here before (a join that came to nothing).
                files::remove(&directory.join(ROTATION_FILE))?;
                self.keys.save(directory)
            }
        }
    }

    /// The files of the newest keys: what another master gets that has not got them yet.
    #[must_use]
    pub fn newest_files(&self) -> Vec<(String, String)> {
        self.newest().to_files()
    }

    /// New keys to come after the newest.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn successor(
        &self,
        cluster_id: &str,
        generation: u64,
        now: Timestamp,
    ) -> Result<ClusterKeys, Error> {
        self.keys.successor(cluster_id, generation, now)
    }
}

fn copy(keys: &ClusterKeys) -> Result<ClusterKeys, Error> {
    let files: BTreeMap<String, String> = keys.to_files().into_iter().collect();
    ClusterKeys::from_files(|name| Ok(files.get(name).cloned().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subject;
    use crate::facts::signed_by;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn ring() -> KeyRing {
        KeyRing::new(ClusterKeys::generate("c1", now()).unwrap())
    }

    fn next(ring: &KeyRing) -> KeyRing {
        let generation = ring.generation() + 1;
        let keys = ring.successor("c1", generation, now()).unwrap();
        ring.with_next(keys, generation).unwrap()
    }

    #[test]
    fn both_generations_are_believed_in_between_and_marks_grow() {
        let first = ring();
        let trust = next(&first);
        let sign = trust.signing().unwrap();
        let done = sign.finished().unwrap();
        let pin = |ring: &KeyRing| ring.keys().pin().unwrap();
        assert_eq!(pin(&trust), pin(&first));
        assert_ne!(pin(&sign), pin(&first));
        assert_eq!(pin(&done), pin(&sign));
        assert_eq!(trust.newest().pin().unwrap(), pin(&done));
        assert_eq!(trust.pins().unwrap(), [pin(&first), pin(&done)]);
        assert_eq!(sign.pins().unwrap(), [pin(&done), pin(&first)]);
        assert_eq!(done.pins().unwrap(), [pin(&done)]);
        assert!(done.is_of(&pin(&first)).unwrap(), "it remembers what it was");
        assert!(!first.is_of(&pin(&done)).unwrap());
        // The next change begins before the end of this one.
        assert!(next(&sign).is_of(&pin(&first)).unwrap(), "nothing is forgotten");
        let marks = [&first, &trust, &sign, &done].map(KeyRing::mark);
        assert!(marks.is_sorted() && marks[0] < marks[1], "{marks:?}");
        // What is not meant is not done.
        assert_eq!(trust.finished().unwrap().mark(), trust.mark());
        assert_eq!(done.signing().unwrap().mark(), done.mark());
        assert_eq!(
            done.keys().service_account_pem,
            first.keys().service_account_pem,
            "tokens stay good"
        );
    }

    #[test]
    fn who_knows_the_old_authority_only_is_led_to_the_new_one() {
        let sign = next(&ring()).signing().unwrap();
        let subject = Subject::Serving { names: vec!["a".to_owned()], addresses: Vec::new() };
        let leaf = sign.keys().cluster.issue(&subject, now()).unwrap().certificate_pem;
        let chain = sign.chain_pem(Circle::Cluster, &leaf).unwrap();
        let parts: Vec<String> =
            chain.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect();
        let [leaf, vouched, new, old] = &parts[..] else { panic!("{}", parts.len()) };
        assert!(signed_by(leaf, vouched) && signed_by(leaf, new) && signed_by(vouched, old));
        assert_eq!(sign.bundle_pem(Circle::Cluster), format!("{new}{old}"));
        let done = sign.finished().unwrap();
        assert_eq!(done.chain_pem(Circle::Cluster, leaf).unwrap(), format!("{leaf}{new}"));
    }

    #[test]
    fn every_step_is_loaded_as_it_was_saved() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pki");
        let first = ring();
        let trust = next(&first);
        let (sign, again) = (trust.signing().unwrap(), trust.signing().unwrap());
        let done = sign.finished().unwrap();
        let more = next(&done);
        for ring in [&first, &trust, &sign, &done, &more, &first] {
            ring.save(&path).unwrap();
            let loaded = KeyRing::load(&path).unwrap();
            assert_eq!(loaded.to_files(), ring.to_files(), "{ring:?}");
            // Whoever knows nothing of generations reads the keys that sign.
            let plain = ClusterKeys::load(&path).unwrap();
            assert_eq!(plain.to_files(), ring.keys().to_files(), "{ring:?}");
        }
        // Ended between the two: the files of the keys are still the old ones.
        trust.save(&path).unwrap();
        files::write_private(&path.join(ROTATION_FILE), again.on_disk().unwrap().as_bytes())
            .unwrap();
        let loaded = KeyRing::load(&path).unwrap();
        assert_eq!(loaded.keys().to_files(), again.keys().to_files());
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path.join(ROTATION_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_newer_form_and_damage_are_told() {
        let keys = ring();
        let all: BTreeMap<String, String> = keys.to_files().into_iter().collect();
        let read = |name: &str| Ok(all[name].clone());
        let error = KeyRing::from_files(read, Some(r#"{"version": 2}"#)).unwrap_err();
        assert!(error.to_string().contains("newer Quorate"), "{error}");
        let error = KeyRing::from_files(read, Some("{")).unwrap_err();
        assert!(error.to_string().contains("rotation.json is damaged"), "{error}");
        assert!(!format!("{keys:?}").contains("PRIVATE"));
    }
}
