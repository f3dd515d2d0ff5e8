//! `DefaultPreemption`: what evicting pods of lower priority would change.
//!
//! For now it evicts nobody; it says where eviction could have helped and where not, in Kubernetes'
//! words. The search for victims goes into `post_filter`.

use std::collections::BTreeMap;

use crate::decide::{Diagnosis, append_counts};
use crate::framework::{Plugin, PostFilter, Reason};
use crate::pod::PodInfo;
use crate::view::{Change, ClusterView};

/// See the module.
#[derive(Debug)]
pub struct DefaultPreemption;

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn could_help(&self, _view: &ClusterView, _pod: &PodInfo, _change: &Change) -> bool {
        false
    }

    fn post_filter(
        &self,
        _view: &ClusterView,
        pod: &PodInfo,
        diagnosis: &Diagnosis,
    ) -> Option<PostFilter> {
        if pod.preempts_never {
            let message = "preemption: not eligible due to preemptionPolicy=Never.".to_owned();
            return Some(PostFilter { nominated: None, message });
        }
        let resolvable =
            diagnosis.rejections.iter().filter(|(_, rejection)| rejection.resolvable).count();
        let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
        for (reason, count) in
            [(NO_VICTIMS, resolvable), (NOT_HELPFUL, diagnosis.nodes - resolvable)]
        {
            if count > 0 {
                counts.insert(reason.into(), count);
            }
        }
        let mut message = format!("preemption: 0/{} nodes are available:", diagnosis.nodes);
        append_counts(&mut message, counts);
        Some(PostFilter { nominated: None, message })
    }
}
