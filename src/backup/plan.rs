//! When a master makes backups by itself, where, and how many it keeps: the options, checked.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions};
use jiff::Timestamp;
use quorate_backup::Passphrase;

use super::remote::Remote;
use crate::config::Options;

/// Twice a day.
const SCHEDULE: &str = "0 */12 * * *";

/// How many of its own a master keeps.
const KEEP: u32 = 5;

/// More are not kept: a mistyped number fills no disk.
const KEEP_MAX: u32 = 1000;

/// Below the data directory.
pub const DIRECTORY: &str = "backups";

/// See the module.
#[derive(Debug, Clone)]
pub struct Plan {
    schedule: Crontab,
    /// As it was given.
    pub text: String,
    /// Of the newest, so many stay.
    pub keep: usize,
    /// Where they are; with a bucket, where each is made before it goes there.
    pub directory: PathBuf,
    /// The bucket they go to.
    pub remote: Option<Remote>,
    /// Seals the keys that go into them, if they are to have any.
    pub passphrase: Option<Passphrase>,
}

impl Plan {
    /// From the options; `None` when there are to be no backups.
    pub fn new(options: &Options, data: &Path) -> anyhow::Result<Option<Self>> {
        if options.no_backups == Some(true) {
            return Ok(None);
        }
        let text = options.backup_schedule.as_deref().unwrap_or(SCHEDULE).trim();
        let keep = options.backup_keep.unwrap_or(KEEP);
        if !(1..=KEEP_MAX).contains(&keep) {
            bail!("--backup-keep {keep}: keep 1 to {KEEP_MAX}, or make none with --no-backups");
        }
        let own = data.join(DIRECTORY);
        let asked = options.backup_dir.as_deref();
        let remote = asked.map(Remote::parse).transpose()?.flatten();
        let directory = match (&remote, asked) {
            (Some(_), _) | (None, None) => own,
            (None, Some(directory)) => directory.to_owned(),
        };
        let passphrase = options.backup_passphrase_file.as_deref().map(read_passphrase);
        Ok(Some(Self {
            schedule: parse(text)?,
            text: text.to_owned(),
            keep: keep as usize,
            directory,
            remote,
            passphrase: passphrase.transpose()?,
        }))
    }

    /// The first time after `after`.
    pub fn next(&self, after: Timestamp) -> anyhow::Result<Timestamp> {
        let next = self.schedule.find_next(after);
        let next = next.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(next.timestamp())
    }
}

fn parse(text: &str) -> anyhow::Result<Crontab> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    cronexpr::parse_crontab_with(text, options).map_err(|error| {
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default().trim();
        anyhow::anyhow!(
            "--backup-schedule {text:?}: {why}. Give minute, hour, day of the month, month and day of the week, such as \
             {SCHEDULE:?}, in UTC or with a time zone after them"
        )
    })
}

/// A passphrase from its file.
pub fn read_passphrase(file: &Path) -> anyhow::Result<Passphrase> {
    let what = || format!("the passphrase file {}", file.display());
    let text = quorate_pki::files::read(file).with_context(what)?;
    Passphrase::new(&text).with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let options = Options { backup_schedule: Some(schedule.into()), ..Options::default() };
        let plan = Plan::new(&options, Path::new("/data")).unwrap().unwrap();
        plan.next(after.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn twice_a_day_below_the_data_directory_unless_told_otherwise() {
        let plan = Plan::new(&Options::default(), Path::new("/data")).unwrap().unwrap();
        assert_eq!((plan.keep, plan.directory.to_str()), (5, Some("/data/backups")));
        let first = plan.next("2026-03-01T00:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(first.to_string(), "2026-03-01T12:00:00Z");
        assert_eq!(plan.next(first).unwrap().to_string(), "2026-03-02T00:00:00Z");
        let none = Options { no_backups: Some(true), ..Options::default() };
        assert!(Plan::new(&none, Path::new("/data")).unwrap().is_none());
    }

    #[test]
    fn a_schedule_may_have_a_time_zone() {
        assert_eq!(next("30 2 * * *", "2026-03-01T12:00:00Z"), "2026-03-02T02:30:00Z");
        assert_eq!(next("30 2 * * * Asia/Tokyo", "2026-03-01T12:00:00Z"), "2026-03-01T17:30:00Z");
    }

    #[test]
    fn wrong_values_are_refused_with_an_example() {
        let refused = |options: Options| {
            format!("{:#}", Plan::new(&options, Path::new("/data")).unwrap_err())
        };
        let schedule = |text: &str| {
            refused(Options { backup_schedule: Some(text.into()), ..Options::default() })
        };
        for wrong in ["", "daily", "61 * * * *", "* * * *"] {
            let said = schedule(wrong);
            assert!(said.contains("such as \"0 */12 * * *\"") && !said.contains('\n'), "{said}");
        }
        let none = refused(Options { backup_keep: Some(0), ..Options::default() });
        assert!(none.ends_with("or make none with --no-backups"), "{none}");
        let missing = Some("/no/such/file".into());
        let said = refused(Options { backup_passphrase_file: missing, ..Options::default() });
        assert!(said.contains("/no/such/file"), "{said}");
    }
}
