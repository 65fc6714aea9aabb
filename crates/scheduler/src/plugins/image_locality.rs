//! ImageLocality: prefers nodes that have the pod's images already.

use crate::{
    framework::{BEST, Plugin, Point, Score},
    pod::PodInfo,
    snapshot::{NodeId, NodeInfo, Snapshot},
};

const SMALLEST: i64 = 23 * 1024 * 1024;
const LARGEST: i64 = 1000 * 1024 * 1024;

pub(super) struct ImageLocality;

struct There<'a> {
    /// With the part of all nodes that have it, so that what few have does not draw everybody there.
    images: Vec<(&'a str, f64)>,
    most: i64,
}

impl Score for There<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let there = self.images.iter().filter_map(|(image, part)| {
            // Truncated, as upstream does.
            node.facts.images.get(*image).map(|size| (*size as f64 * part) as i64)
        });
        let sum = there.sum::<i64>().clamp(SMALLEST, self.most);
        (sum - SMALLEST) * BEST / (self.most - SMALLEST)
    }
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }
    fn points(&self) -> &'static [Point] {
        &[Point::Score]
    }
    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        all: &'a Snapshot,
        _: &[NodeId],
    ) -> Option<Box<dyn Score + 'a>> {
        let nodes = all.order().len() as f64;
        let known = pod.images.iter().map(|image| (&**image, all.nodes_with_image(image)));
        let images: Vec<_> =
            known.filter(|(_, on)| *on > 0).map(|(image, on)| (image, on as f64 / nodes)).collect();
        if images.is_empty() {
            return None;
        }
        let containers = i64::try_from(pod.images.len()).unwrap_or(i64::MAX);
        Some(Box::new(There { images, most: LARGEST.saturating_mul(containers) }))
    }
}
