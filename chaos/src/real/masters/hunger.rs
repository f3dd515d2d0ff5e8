//! Masters that get no more memory, and are started again when they ended for want of it.

use std::collections::BTreeMap;

use anyhow::bail;
use tokio::process::Child;
use tokio::time::Instant;

use super::Masters;
use crate::limits::KILLED_MAX;
use crate::scenario::fault::Effect;

impl Masters {
    /// Those who get memory again: who ended for want of it is started again.
    pub(super) async fn end_of_hunger(&mut self, from: &Effect, to: &Effect) -> anyhow::Result<()> {
        let over = from.starved.keys().filter(|master| !to.starved.contains_key(master));
        for master in over.copied().collect::<Vec<usize>>() {
            self.all_live()?;
            self.change_memory(to)?;
            // Who was ended in the last moment is not gone at once.
            let ended = self.memories.as_mut().is_some_and(|memories| memories.was_ended(master));
            let begin = Instant::now();
            while ended && self.state(master).is_some() && begin.elapsed() < KILLED_MAX {
                tokio::time::sleep(crate::real::POLL).await;
            }
            self.all_live()?;
            self.may_end.remove(&master);
            if !to.down.contains(&master) && !from.down.contains(&master) {
                self.restart(master)?;
            }
        }
        Ok(())
    }

    /// Takes memory away, and gives it back.
    pub(super) fn change_memory(&mut self, to: &Effect) -> anyhow::Result<()> {
        let Some(memories) = &mut self.memories else { return Ok(()) };
        let ids = to.starved.iter().filter_map(|(master, mib)| {
            let id = self.masters[*master].process.as_ref().and_then(Child::id)?;
            Some((*master, (id, *mib)))
        });
        let ids: BTreeMap<usize, (u32, u32)> = ids.collect();
        memories.set(&ids)?;
        for master in ids.into_keys() {
            self.may_end.entry(master).or_default();
        }
        Ok(())
    }

    /// Whether who is to have no more memory has none.
    pub(super) fn look_at_memory(
        &self,
        effect: &Effect,
        master: usize,
    ) -> anyhow::Result<Option<String>> {
        let (Some(mib), Some(memories)) = (effect.starved.get(&master), &self.memories) else {
            return Ok(None);
        };
        let name = &self.masters[master].name;
        match memories.shown(master) {
            Some(group) => Ok(Some(format!("{name} gets {mib} MiB more, by {group}"))),
            // It has ended already, as it may.
            None if self.state(master).is_none() => Ok(None),
            None => bail!("{name} gets all memory"),
        }
    }
}
