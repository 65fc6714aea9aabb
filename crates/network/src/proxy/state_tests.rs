use proptest::{collection::vec, prelude::*};

use super::*;
use crate::bridge::Protocol;

/// What the kernel would hold. Refuses what the kernel would refuse.
#[derive(Default, Debug, PartialEq)]
struct Kernel {
    pickers: BTreeSet<Picker>,
    elements: BTreeMap<String, Element>,
}

impl Kernel {
    /// Elements of one table with one key exclude each other.
    fn key(element: Element) -> String {
        match element {
            Element::Dispatch(frontend, picker) => format!("dispatch {frontend:?} {}", picker.inside),
            Element::Endpoint(whose, frontend, number, _) => {
                format!("endpoint {whose:?} {frontend:?} {number}")
            }
            Element::Reject(frontend) | Element::Drop(frontend) => format!("refused {frontend:?}"),
            Element::Identity(whose, frontend, number, _) => {
                format!("identity {whose:?} {frontend:?} {number}")
            }
            Element::Guarded(_) | Element::Admitted(..) | Element::Hairpin(_) | Element::Announced(_) => {
                format!("{element:?}")
            }
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::AddPicker(picker) => assert!(self.pickers.insert(picker), "{picker:?} is there"),
            Change::RemovePicker(picker) => {
                assert!(self.pickers.remove(&picker), "{picker:?} is not there");
                let used = |e: &Element| matches!(e, Element::Dispatch(_, by) if *by == picker);
                assert!(!self.elements.values().any(used), "{picker:?} is in use");
            }
            Change::Add(element) => {
                if let Element::Dispatch(_, picker) = element {
                    assert!(self.pickers.contains(&picker), "{picker:?} is missing");
                }
                let old = self.elements.insert(Kernel::key(element), element);
                assert_eq!(old, None, "the key of {element:?} is taken");
            }
            Change::Remove(element) => {
                assert_eq!(self.elements.remove(&Kernel::key(element)), Some(element));
            }
        }
    }
}

fn frontend() -> impl Strategy<Value = Frontend> {
    (0u8..3, 1u16..3).prop_map(|(last, port)| Frontend {
        address: if last == 0 { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::new(10, 96, 0, last) },
        protocol: Protocol::Tcp,
        port,
    })
}

fn route() -> impl Strategy<Value = Route> {
    let endpoint =
        (1u8..5, 80u16..82).prop_map(|(last, port)| SocketAddrV4::new([10, 1, 0, last].into(), port));
    let endpoints = proptest::collection::btree_set(endpoint, 1..4).prop_map(Vec::from_iter);
    let affinity = proptest::option::of(60u32..62);
    let sources = prop_oneof![
        2 => Just(None),
        1 => proptest::collection::btree_set(0u8..3, 0..3).prop_map(|nets| {
            let net = |n| Ipv4Net::new_assert(Ipv4Addr::new(192, 0, n, 0), 24);
            Some(nets.into_iter().map(net).collect::<Vec<_>>().into())
        }),
    ];
    prop_oneof![
        4 => (endpoints, affinity, sources, 0u8..4).prop_map(|(endpoints, affinity, sources, way)| match way {
            // One that is nowhere else, one of several, none.
            0 => Route::Local { here: endpoints[1..].into(), anywhere: endpoints, affinity, sources },
            1 => Route::Local { here: endpoints.clone(), anywhere: endpoints[..1].into(), affinity, sources },
            _ => Route::Endpoints { endpoints, affinity, masquerade: way == 2, sources },
        }),
        1 => Just(Route::Reject),
        1 => Just(Route::Drop),
    ]
}

proptest! {
    #[test]
    fn changes_in_any_order_lead_to_the_same_tables(
        steps in vec((0u8..4, proptest::collection::btree_map(frontend(), route(), 0..4)), 1..20),
    ) {
        let announced = || vec![Ipv4Addr::new(10, 96, 0, 0)..=Ipv4Addr::new(10, 96, 0, 1)];
        let (mut state, mut kernel) = (State::new(announced()), Kernel::default());
        let mut last = BTreeMap::new();
        for (service, routes) in steps {
            let service = ObjectKey::new("n", &service.to_string());
            for change in state.replace(&service, routes.clone()) {
                kernel.apply(change);
            }
            prop_assert!(state.replace(&service, routes.clone()).is_empty(), "nothing changed");
            last.insert(service, routes);
        }
        let (mut fresh, mut at_once) = (State::new(announced()), Kernel::default());
        for (service, routes) in last.iter().rev() {
            fresh.replace(service, routes.clone());
        }
        fresh.everything().for_each(|change| at_once.apply(change));
        prop_assert_eq!(&kernel, &at_once);
        let one = Ipv4Addr::new(10, 96, 0, 1);
        let has_frontends = last.values().flat_map(BTreeMap::keys).any(|frontend| frontend.address == one);
        let is_announced = kernel.elements.values().any(|element| *element == Element::Announced(one));
        prop_assert_eq!(is_announced, has_frontends);

        for service in last.keys() {
            for change in state.replace(service, BTreeMap::new()) {
                kernel.apply(change);
            }
        }
        prop_assert_eq!(kernel, Kernel::default());
    }
}

#[test]
fn one_endpoint_more_touches_only_what_it_must() {
    let frontend = Frontend { address: [10, 96, 0, 1].into(), protocol: Protocol::Tcp, port: 80 };
    let routes = |count: u8| {
        let endpoints = (1..=count).map(|last| SocketAddrV4::new([10, 1, 0, last].into(), 80)).collect();
        BTreeMap::from([(
            frontend,
            Route::Endpoints { endpoints, affinity: None, masquerade: false, sources: None },
        )])
    };
    let (service, neighbour) = (ObjectKey::new("n", "a"), ObjectKey::new("n", "b"));
    let mut state = State::default();
    state.replace(&service, routes(200));
    state.replace(&neighbour, BTreeMap::new());
    let changes = state.replace(&service, routes(201));
    // The picker of 201, the dispatch to it, the endpoint, its hairpin; the old dispatch and picker.
    assert_eq!(changes.len(), 6, "{changes:?}");
}

#[test]
fn identities_are_unique_and_stay_when_numbers_shift() {
    let frontend = Frontend { address: [10, 96, 0, 1].into(), protocol: Protocol::Tcp, port: 80 };
    let endpoint = |last, port| SocketAddrV4::new([10, 1, 0, last].into(), port);
    let identities = |endpoints: &[SocketAddrV4]| -> BTreeMap<SocketAddrV4, u32> {
        let route = Route::Endpoints {
            endpoints: endpoints.to_vec(),
            affinity: Some(1),
            masquerade: false,
            sources: None,
        };
        let elements = elements(frontend, &route);
        let by_number = elements.iter().filter_map(|e| match e {
            Element::Identity(_, _, number, identity) => Some((endpoints[*number as usize], *identity)),
            _ => None,
        });
        let by_number: BTreeMap<SocketAddrV4, u32> = by_number.collect();
        for (endpoint, identity) in &by_number {
            assert!(elements.contains(&Element::Endpoint(Clients::All, frontend, *identity, *endpoint)));
        }
        by_number
    };
    let all = identities(&[endpoint(1, 80), endpoint(2, 80), endpoint(2, 81), endpoint(3, 80)]);
    assert_eq!(all.values().collect::<BTreeSet<_>>().len(), 4);
    let some = identities(&[endpoint(2, 80), endpoint(2, 81)]);
    assert!(some.iter().all(|(endpoint, identity)| all[endpoint] == *identity));
}

#[test]
fn a_contested_address_belongs_to_the_first_by_name() {
    let frontend = Frontend { address: [192, 0, 2, 1].into(), protocol: Protocol::Tcp, port: 80 };
    let (a, b) = (ObjectKey::new("n", "a"), ObjectKey::new("n", "b"));
    let mut state = State::default();
    state.replace(&b, BTreeMap::from([(frontend, Route::Drop)]));
    state.replace(&a, BTreeMap::from([(frontend, Route::Reject)]));
    assert_eq!(state.route(&frontend), Some(&Route::Reject));
    state.replace(&a, BTreeMap::new());
    assert_eq!(state.route(&frontend), Some(&Route::Drop));
}
