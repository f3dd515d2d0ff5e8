//! The bytes of the format, and that no damage to them goes unnoticed.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Cursor, Read as _};

use proptest::prelude::*;
use quorate_backup::{
    Backup, Error, FORMAT, Header, Maker, Network, Passphrase, SealedKeys, read_header, write,
};

const STATE: &[u8] = b"the state of a store";

fn header() -> Header {
    Header {
        format: FORMAT,
        cluster_id: "c1".to_owned(),
        made_at: "2026-03-01T12:00:00Z".parse().unwrap(),
        made_by: Maker { name: "m1".to_owned(), node_id: 1, version: "0.1.0".to_owned() },
        revision: 300,
        index: 400,
        term: 2,
        level: 1,
        state_hash: "00ff".to_owned(),
        objects: 3,
        network: Network {
            service_cidr: "10.43.0.0/16".to_owned(),
            cluster_cidr: "10.42.0.0/16".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        },
        authority: "abc".to_owned(),
        keys: None,
    }
}

fn written(header: &Header, state: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, header, |out| out.write_all(state)).unwrap();
    bytes
}

fn check(bytes: &[u8]) -> Result<Backup<Cursor<&[u8]>>, Error> {
    Backup::check(Cursor::new(bytes))
}

fn state_of(backup: &mut Backup<Cursor<&[u8]>>) -> Vec<u8> {
    let mut state = Vec::new();
    backup.state().unwrap().read_to_end(&mut state).unwrap();
    state
}

/// If this fails, backups that people have cannot be read any more.
#[test]
fn old_files_are_read() {
    let golden = include_bytes!("golden/v1.backup");
    let mut backup = check(golden).unwrap();
    assert_eq!(*backup.header(), header());
    assert_eq!(backup.state_bytes(), STATE.len() as u64);
    assert_eq!(state_of(&mut backup), STATE);
}

#[test]
fn the_header_keeps_its_form() {
    let text = r#"{"format":1,"clusterId":"c1","madeAt":"2026-03-01T12:00:00Z","madeBy":{"name":"m1","nodeId":1,"#
        .to_owned()
        + r#""version":"0.1.0"},"revision":300,"index":400,"term":2,"level":1,"stateHash":"00ff","objects":3,"#
        + r#""network":{"serviceCidr":"10.43.0.0/16","clusterCidr":"10.42.0.0/16","clusterDomain":"cluster.local"},"#
        + r#""authority":"abc"}"#;
    let bytes = written(&header(), STATE);
    assert_eq!(&bytes[..8], b"QRBACK01");
    assert_eq!(std::str::from_utf8(&bytes[12..12 + text.len()]).unwrap(), text);
}

#[test]
fn a_newer_form_and_a_foreign_file_are_named_as_such() {
    let newer = written(&Header { format: FORMAT + 1, ..header() }, STATE);
    assert!(matches!(check(&newer), Err(Error::Newer(2))));
    assert!(matches!(read_header(&mut newer.as_slice()), Err(Error::Newer(2))));
    assert!(matches!(check(b"apiVersion: v1"), Err(Error::Foreign)));
    assert!(matches!(check(b""), Err(Error::Foreign)));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let good = written(&header(), STATE);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&bad).is_err(), "bit {bit}");
    }
    for cut in 0..good.len() {
        assert!(check(&good[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn keys_travel_in_the_header_and_are_covered_by_the_checksum() {
    let passphrase = Passphrase::new("correct horse").unwrap();
    let files = vec![("peer-ca.key".to_owned(), "private".to_owned())];
    let keys = SealedKeys::seal(&files, &passphrase, "c1").unwrap();
    let bytes = written(&Header { keys: Some(keys), ..header() }, STATE);
    let backup = check(&bytes).unwrap();
    let keys = backup.header().keys.as_ref().unwrap();
    assert_eq!(keys.open(&passphrase, "c1").unwrap(), files);
}

proptest! {
    #[test]
    fn any_state_comes_back(state in prop::collection::vec(any::<u8>(), 0..100_000)) {
        let bytes = written(&header(), &state);
        let mut backup = check(&bytes).unwrap();
        prop_assert_eq!(backup.state_bytes(), state.len() as u64);
        prop_assert_eq!(state_of(&mut backup), state);
    }

    #[test]
    fn any_damage_is_noticed(
        state in prop::collection::vec(any::<u8>(), 0..5_000),
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 1..20),
        kind in 0..3,
    ) {
        let good = written(&header(), &state);
        let at = at.index(good.len());
        let mut bad = good.clone();
        match kind {
            // Something else in its place.
            0 => for (place, byte) in bad[at..].iter_mut().zip(&with) { *place = *byte },
            // Something more.
            1 => drop(bad.splice(at..at, with)),
            // Something less.
            _ => { let end = (at + with.len()).min(bad.len()); drop(bad.drain(at..end)); }
        }
        prop_assert!(bad == good || check(&bad).is_err());
    }
}
