//! Images nobody uses are removed when the disk they are on gets full: above 85 % until 80 %, the longest unused first,
//! none younger than two minutes, none that a container or the runtime itself needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use crate::events::Kind;
use crate::limits::{
    IMAGE_AGE_MIN, IMAGE_DISK_HIGH_PERCENT, IMAGE_DISK_LOW_PERCENT, IMAGE_GC_INTERVAL,
};
use crate::runtime::{Image, Result};
use crate::shared::Shared;

/// What is known of one image.
#[derive(Debug, Clone, Copy)]
struct Record {
    detected: Instant,
    used: Option<Instant>,
}

type Records = BTreeMap<String, Record>;

/// The disk that holds the images, in bytes.
#[derive(Debug, Clone, Copy)]
struct Disk {
    size: u64,
    free: u64,
}

impl Disk {
    /// How much must go; 0: nothing.
    fn surplus(self) -> u64 {
        let used = self.size.saturating_sub(self.free);
        let share = |percent: u64| u64::try_from(u128::from(self.size) * u128::from(percent) / 100);
        if used < share(IMAGE_DISK_HIGH_PERCENT).unwrap_or(u64::MAX) {
            return 0;
        }
        used.saturating_sub(share(IMAGE_DISK_LOW_PERCENT).unwrap_or(u64::MAX))
    }
}

/// Looks again and again.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut records = Records::new();
    let mut ticks = tokio::time::interval(IMAGE_GC_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = once(&shared, &mut records).await {
            tracing::debug!(%error, "images cannot be looked through");
        }
    }
}

async fn once(shared: &Shared, records: &mut Records) -> Result<()> {
    let images = shared.runtime.list_images().await?;
    // All containers of the runtime, not only this agent's.
    let containers = shared.runtime.list_containers().await?;
    let used: BTreeSet<String> = containers.into_iter().map(|c| c.image_ref).collect();
    let now = Instant::now();
    note(records, &images, &used, now);
    let (_, path) = shared.runtime.image_fs().await?;
    let Ok(disk) = rustix::fs::statvfs(&path) else { return Ok(()) };
    let disk = Disk { size: disk.f_blocks * disk.f_frsize, free: disk.f_bavail * disk.f_frsize };
    let surplus = disk.surplus();
    if surplus == 0 {
        return Ok(());
    }
    let mut freed = 0;
    for image in candidates(records, &images, &used, now) {
        if freed >= surplus {
            break;
        }
        match shared.runtime.remove_image(&image.id).await {
            Ok(()) => {
                tracing::info!(image = %image.id, bytes = image.size_bytes, "unused image removed");
                freed += image.size_bytes;
                records.remove(&image.id);
            }
            Err(error) => tracing::warn!(image = %image.id, %error, "image not removed"),
        }
    }
    if freed < surplus {
        let text = format!(
            "Failed to garbage collect required amount of images. Attempted to free {surplus} bytes, but only \
             found {freed} bytes eligible to free."
        );
        shared.events.node(Kind::Warning, "FreeDiskSpaceFailed", &text);
    }
    Ok(())
}

fn is_used(image: &Image, used: &BTreeSet<String>) -> bool {
    let names = image.repo_tags.iter().chain(&image.repo_digests);
    used.contains(&image.id) || names.into_iter().any(|name| used.contains(name))
}

fn note(records: &mut Records, images: &[Image], used: &BTreeSet<String>, now: Instant) {
    let here: BTreeSet<&String> = images.iter().map(|image| &image.id).collect();
    records.retain(|id, _| here.contains(id));
    for image in images {
        let fresh = Record { detected: now, used: None };
        let record = records.entry(image.id.clone()).or_insert(fresh);
        if is_used(image, used) {
            record.used = Some(now);
        }
    }
}

/// What may go, in the order it goes.
fn candidates<'a>(
    records: &Records,
    images: &'a [Image],
    used: &BTreeSet<String>,
    now: Instant,
) -> Vec<&'a Image> {
    let old = |record: &Record| now.duration_since(record.detected) >= IMAGE_AGE_MIN;
    let mut found: Vec<(Record, &Image)> = images
        .iter()
        .filter(|image| !image.pinned && !is_used(image, used))
        .filter_map(|image| Some((*records.get(&image.id)?, image)))
        .filter(|(record, _)| old(record))
        .collect();
    found.sort_by_key(|(record, _)| (record.used, record.detected));
    found.into_iter().map(|(_, image)| image).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_full_disk_is_emptied_to_the_low_mark() {
        for (free, expected) in [(100, 0), (16, 0), (15, 5), (0, 20)] {
            assert_eq!(Disk { size: 100, free }.surplus(), expected, "{free}");
        }
        assert_eq!(Disk { size: 0, free: 0 }.surplus(), 0);
    }

    #[test]
    fn the_longest_unused_go_first_and_what_is_needed_stays() {
        let image = |id: &str, pinned: bool| Image {
            id: id.to_owned(),
            repo_tags: vec![format!("tag-{id}")],
            pinned,
            ..Image::default()
        };
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let used = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let all = ["a", "b", "c"].map(|id| image(id, false));
        let mut records = Records::new();
        note(&mut records, &all, &used(&["a", "tag-b"]), at(0));
        note(&mut records, &all, &used(&["a"]), at(60));
        let more = [all.as_slice(), &[image("young", false), image("pinned", true)]].concat();
        note(&mut records, &more, &used(&["c"]), at(150));
        let ids = |images: Vec<&Image>| -> Vec<String> {
            images.into_iter().map(|image| image.id.clone()).collect()
        };
        assert_eq!(ids(candidates(&records, &more, &used(&["c"]), at(151))), ["b", "a"]);
        assert_eq!(ids(candidates(&records, &more, &used(&[]), at(119 + 150))), ["b", "a", "c"]);
        assert_eq!(
            ids(candidates(&records, &more, &used(&["a"]), at(150 + 120))),
            ["young", "b", "c"]
        );
    }
}
