//! `ImageLocality`: a node that has the pod's images is better, the larger they are; images that only
//! few nodes have count less, so that not all pods of a kind gather there.

use crate::framework::{Plugin, SCORE_MAX, Score};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::view::ClusterView;

/// See the module.
#[derive(Debug)]
pub struct ImageLocality;

/// Below this sum of bytes a node gets no points.
const BYTES_MIN: i64 = 23 * 1024 * 1024;

/// From this many bytes per container a node gets all points.
const BYTES_MAX_PER_CONTAINER: i64 = 1000 * 1024 * 1024;

struct Images<'a> {
    pod: &'a PodInfo,
    /// For each image of the pod: on which part of the nodes it is.
    spread: Vec<f64>,
}

impl Score for Images<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let images = self.pod.images.iter().zip(&self.spread);
        let bytes = images
            .filter_map(|(image, spread)| Some(scale(*node.facts.images.get(image)?, *spread)))
            .fold(0_i64, i64::saturating_add);
        let containers = i64::try_from(self.pod.images.len().max(1)).unwrap_or(i64::MAX);
        let max = BYTES_MAX_PER_CONTAINER.saturating_mul(containers);
        SCORE_MAX * (bytes.clamp(BYTES_MIN, max) - BYTES_MIN) / (max - BYTES_MIN)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // upstream computes in f64 too
fn scale(bytes: i64, by: f64) -> i64 {
    (bytes as f64 * by) as i64
}

#[allow(clippy::cast_precision_loss)] // numbers of nodes
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn weight(&self) -> i64 {
        1
    }

    fn pre_score<'a>(
        &'a self,
        view: &'a ClusterView,
        pod: &'a PodInfo,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        let of = |image: &String| ratio(view.image_nodes(image), view.len());
        let spread: Vec<f64> = pod.images.iter().map(of).collect();
        if spread.iter().all(|spread| *spread == 0.0) {
            return None;
        }
        Some(Box::new(Images { pod, spread }))
    }
}
