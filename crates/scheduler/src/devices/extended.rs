//! Extended resources for which a DeviceClass stands (KEP-5004): what a pod asks for in this way is claimed for it.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{Container, ContainerExtendedResourceRequest as Mapping, PodSpec},
    resource::v1::{DeviceRequest, ExactDeviceRequest},
};
use tiphys_api::quota;
use tiphys_client::placement;

/// What a container asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Its place among all containers, those of the start first.
    place: usize,
    container: Box<str>,
    /// It has ended when later ones start, and leaves what it had to them.
    is_brief: bool,
    /// By the resource: its place among all that the container asks for, and how many.
    resources: BTreeMap<Box<str>, (usize, i64)>,
}

/// The containers that ask for extended resources.
pub fn asking(spec: &PodSpec) -> Box<[Asking]> {
    let before = spec.init_containers.iter().flatten().map(|container| (container, true));
    let all = before.chain(spec.containers.iter().map(|container| (container, false)));
    let asks = all.enumerate().map(|(place, (container, is_before))| Asking {
        place,
        container: (&*container.name).into(),
        is_brief: is_before && container.restart_policy.as_deref() != Some("Always"),
        resources: resources(container),
    });
    asks.filter(|asking| !asking.resources.is_empty()).collect()
}

fn resources(container: &Container) -> BTreeMap<Box<str>, (usize, i64)> {
    let requests = container.resources.iter().flat_map(|r| r.requests.iter().flatten());
    let asked = requests.enumerate().filter(|(_, (name, _))| quota::is_extended(name));
    asked
        .filter_map(|(at, (name, amount))| {
            let count = placement::units(amount).filter(|count| *count > 0)?;
            Some(((&**name).into(), (at, count)))
        })
        .collect()
}

/// What a pod's claim asks for, and which container has which of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claiming {
    pub requests: Vec<DeviceRequest>,
    pub mappings: Vec<Mapping>,
}

/// A request of one container.
struct Wanted {
    place: usize,
    name: String,
    count: i64,
}

/// The claim for these resources, each with its class, in their order.
pub fn claiming(asking: &[Asking], resources: &[(&str, &str)]) -> Claiming {
    let mut claiming = Claiming::default();
    for (resource, class) in resources {
        let asks = || asking.iter().filter_map(|a| Some((a, *a.resources.get(*resource)?)));
        let mapping = |asking: &Asking, request: &str| Mapping {
            container_name: asking.container.to_string(),
            request_name: request.to_owned(),
            resource_name: (*resource).to_owned(),
        };
        let name = |asking: &Asking, at: usize| format!("container-{}-request-{at}", asking.place);
        let mut lasting = Vec::new();
        for (asking, (at, count)) in asks().filter(|(asking, _)| !asking.is_brief) {
            let name = name(asking, at);
            claiming.mappings.push(mapping(asking, &name));
            lasting.push(Wanted { place: asking.place, name, count });
        }
        // Of those who are brief, one after the other, each has what later ones will have, and they share the rest.
        let mut most: Option<Wanted> = None;
        let mut with_rest = Vec::new();
        for (asking, (at, count)) in asks().filter(|(asking, _)| asking.is_brief) {
            let mut left = count;
            for later in lasting.iter().filter(|wanted| wanted.place > asking.place) {
                if left > 0 {
                    left -= later.count;
                    claiming.mappings.push(mapping(asking, &later.name));
                }
            }
            if left > 0 {
                with_rest.push(asking);
                if most.as_ref().is_none_or(|most| most.count < left) {
                    most = Some(Wanted { place: asking.place, name: name(asking, at), count: left });
                }
            }
        }
        if let Some(most) = &most {
            claiming.mappings.extend(with_rest.into_iter().map(|asking| mapping(asking, &most.name)));
        }
        claiming.requests.extend(most.into_iter().chain(lasting).map(|wanted| DeviceRequest {
            name: wanted.name,
            exactly: Some(ExactDeviceRequest {
                device_class_name: (*class).to_owned(),
                allocation_mode: Some("ExactCount".to_owned()),
                count: Some(wanted.count),
                ..ExactDeviceRequest::default()
            }),
            first_available: None,
        }));
    }
    claiming.requests.sort_by(|a, b| a.name.cmp(&b.name));
    claiming
}

#[cfg(test)]
#[path = "extended_tests.rs"]
mod tests;
