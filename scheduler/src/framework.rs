//! The frame that carries the plugins: what each may say, and when it is asked.
//!
//! The extension points are kube-scheduler's. What a plugin computes once per decision lives in the
//! object that [`Plugin::pre_filter`] or [`Plugin::pre_score`] gives back and borrows from the view,
//! so there is no untyped state to pass along:
//!
//! | point | here |
//! |---|---|
//! | PreEnqueue | [`Plugin::pre_enqueue`] |
//! | QueueingHint | [`Plugin::could_help`] |
//! | PreFilter, Filter | [`Plugin::pre_filter`] → [`Filter`] |
//! | PostFilter | [`Plugin::post_filter`] |
//! | PreScore, Score, NormalizeScore | [`Plugin::pre_score`] → [`Score`] |
//! | Reserve, Unreserve | [`Plugin::reserve`], [`Plugin::unreserve`] |
//! | PreBind, Bind | [`Plugin::bind`] |

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use quorate_state_machine::Op;

use crate::decide::Diagnosis;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::view::{Change, ClusterView};

/// The highest score that a plugin may give a node, before its weight.
pub const SCORE_MAX: i64 = 100;

/// Text of a reason.
pub type Reason = Cow<'static, str>;

/// Why a node, or a pod as a whole, is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Which plugin refuses.
    pub plugin: &'static str,
    /// Whether evicting other pods could change it.
    pub resolvable: bool,
    /// Kubernetes' texts.
    pub reasons: Vec<Reason>,
}

impl Rejection {
    /// A refusal that evicting pods could change.
    #[must_use]
    pub fn resolvable(plugin: &'static str, reason: impl Into<Reason>) -> Self {
        Self { plugin, resolvable: true, reasons: vec![reason.into()] }
    }

    /// A refusal that evicting pods cannot change.
    #[must_use]
    pub fn unresolvable(plugin: &'static str, reason: impl Into<Reason>) -> Self {
        Self { plugin, resolvable: false, reasons: vec![reason.into()] }
    }
}

/// One plugin's test of nodes for one pod.
pub trait Filter {
    /// Why the pod cannot run on the node, if so.
    fn check(&self, node: &NodeInfo) -> Option<Rejection>;
}

/// One plugin's opinion of nodes for one pod.
pub trait Score {
    /// Any number; more is better unless `normalize` turns it.
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings all nodes' numbers into 0..=[`SCORE_MAX`].
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// What comes of asking a plugin before the nodes are looked at.
pub enum PreFilter<'a> {
    /// The plugin has nothing to say about this pod.
    Skip,
    /// No node can run the pod.
    Reject(Rejection),
    /// Each node is to be tested.
    Check(Box<dyn Filter + 'a>),
    /// Only these nodes come into question, and they are to be tested.
    Only(BTreeSet<Arc<str>>, Box<dyn Filter + 'a>),
}

impl fmt::Debug for PreFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip => f.write_str("Skip"),
            Self::Reject(rejection) => rejection.fmt(f),
            Self::Check(_) => f.write_str("Check"),
            Self::Only(names, _) => f.debug_tuple("Only").field(names).finish(),
        }
    }
}

/// What comes of a plugin's attempt to make room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostFilter {
    /// The node where room is being made, if so: it becomes `status.nominatedNodeName`.
    pub nominated: Option<Arc<str>>,
    /// Put at the end of the pod's message.
    pub message: String,
}

/// A plugin: every method that it does not need has a default.
pub trait Plugin: fmt::Debug + Send + Sync {
    /// Kubernetes' name of the plugin.
    fn name(&self) -> &'static str;

    /// What its score counts among the others; 0 when it gives none.
    fn weight(&self) -> i64 {
        0
    }

    /// Why the pod may not be tried at all yet.
    fn pre_enqueue(&self, _pod: &PodInfo) -> Option<Rejection> {
        None
    }

    /// Whether a change could make this plugin accept a pod that it refused. The view has all
    /// changes in it already. Saying yes too often costs time, no too often strands pods.
    fn could_help(&self, _view: &ClusterView, _pod: &PodInfo, _change: &Change) -> bool {
        true
    }

    /// Looks at the pod before the nodes.
    fn pre_filter<'a>(&'a self, _view: &'a ClusterView, _pod: &'a PodInfo) -> PreFilter<'a> {
        PreFilter::Skip
    }

    /// Tries to make room when no node passed. The first plugin that nominates a node ends it.
    fn post_filter(
        &self,
        _view: &ClusterView,
        _pod: &PodInfo,
        _diagnosis: &Diagnosis,
    ) -> Option<PostFilter> {
        None
    }

    /// Looks at the nodes that passed; `None` when the plugin has no opinion on them.
    fn pre_score<'a>(
        &'a self,
        _view: &'a ClusterView,
        _pod: &'a PodInfo,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        None
    }

    /// Takes what the pod needs beyond the node itself, in the view; refusing sends the pod back.
    ///
    /// # Errors
    /// [`Rejection`] when it is not to be had (any more).
    fn reserve(
        &self,
        _view: &mut ClusterView,
        _pod: &PodInfo,
        _node: &str,
    ) -> Result<(), Rejection> {
        Ok(())
    }

    /// Gives back what `reserve` took, when the bind did not come true.
    fn unreserve(&self, _view: &mut ClusterView, _pod: &PodInfo, _node: &str) {}

    /// Further operations that belong to the bind (a volume's claim, for example).
    fn bind(&self, _view: &ClusterView, _pod: &PodInfo, _node: &str) -> Vec<Op> {
        Vec::new()
    }
}

/// Kubernetes' `DefaultNormalizeScore`: the largest becomes [`SCORE_MAX`], or 0 when `reverse`.
pub fn normalize_by_max(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        if max == 0 {
            if reverse {
                *score = SCORE_MAX;
            }
            continue;
        }
        *score = SCORE_MAX * *score / max;
        if reverse {
            *score = SCORE_MAX - *score;
        }
    }
}

/// The node that a change is about, if it is there.
pub(crate) fn changed_node<'a>(view: &'a ClusterView, change: &Change) -> Option<&'a NodeInfo> {
    match change {
        Change::Node { name, .. }
        | Change::Freed { node: name }
        | Change::Placed { node: name } => view.node(name).map(AsRef::as_ref),
        Change::Namespace { .. } => None,
    }
}
