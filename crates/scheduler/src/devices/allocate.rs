//! Which devices claims get on a node: a search, the same for the same input, in a bounded number of steps (KEP-4381).
//!
//! Claims are served in their order, their requests in theirs, each by the first of its ways that leads to an end; of
//! devices, the first ones that do are taken. All claims get all that they ask for, or none gets anything.

use std::{collections::BTreeMap, rc::Rc, time::Instant};

use tiphys_api::quantity::Quantity;
use tiphys_client::ObjectKey;

use super::{
    capacity::{Amounts, Taken, share},
    kinds::{Claim, Class, ConstraintRule, Count, Counters, Device, Request, Rule, Slice, Way, keeps_away},
};

/// How many devices one claim may have.
const MOST_RESULTS: usize = 32;
/// How many devices are tried for the claims of a pod on one node before it counts as one that does not do. A search
/// that has to go back far enough to need more would hold up all other pods.
pub const MOST_STEPS: usize = 20_000;

/// What is known of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolState {
    #[default]
    Whole,
    /// Its driver is writing it: not all slices are there.
    Incomplete,
    /// Two of its devices have one name.
    Invalid,
}

/// A pool as it is from a node.
#[derive(Clone, Debug)]
pub struct Pool<'a> {
    pub driver: &'a str,
    pub name: &'a str,
    pub state: PoolState,
    /// What allocated devices leave of its counters.
    pub left: Counters,
}

/// A device that can be used from a node.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    pub device: &'a Device,
    pub slice: &'a Slice,
    /// Its place in [`Room::pools`].
    pub pool: usize,
    /// Who has it, if somebody has.
    pub taken: Option<&'a Taken>,
}

/// All that can be used from a node.
#[derive(Clone, Debug, Default)]
pub struct Room<'a> {
    pub pools: Vec<Pool<'a>>,
    pub offers: Vec<Offer<'a>>,
    pub rules: Vec<&'a Rule>,
}

/// A claim without devices.
#[derive(Clone, Debug)]
pub struct Want<'a> {
    pub key: ObjectKey,
    pub claim: &'a Claim,
}

/// A device for a claim.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    /// The place of the request in the claim, and of the way in the request.
    pub request: usize,
    pub way: usize,
    pub offer: Offer<'a>,
    /// What is taken of its capacities, if it is given in shares.
    pub share: Option<Rc<Amounts>>,
}

impl Given<'_> {
    fn is(&self, device: &Device) -> bool {
        std::ptr::eq(self.offer.device, device)
    }
}

/// Why it cannot be told which devices claims get.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// What is wrong with a claim, a class or a pool.
    #[error("{0}")]
    Wrong(String),
    #[error("timed out trying to allocate devices")]
    Late,
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Wrong(what)
    }
}

fn in_time(until: Option<Instant>) -> Result<(), Fault> {
    if until.is_some_and(|until| Instant::now() >= until) { Err(Fault::Late) } else { Ok(()) }
}

/// Devices for each claim, in the order of the claims; `None` if they cannot all be served.
///
/// `class` finds a class by its name; the search ends at the instant `until`, if there is one.
///
/// # Errors
/// Why nothing can be told.
pub fn allocate<'a, 'w>(
    room: &Room<'a>,
    wants: &[Want<'w>],
    class: impl Fn(&str) -> Option<&'w Class>,
    until: Option<Instant>,
) -> Result<Option<Vec<Vec<Given<'a>>>>, Fault> {
    let mut ways = Vec::with_capacity(wants.len());
    for want in wants {
        let mut of_claim = Vec::with_capacity(want.claim.requests.len());
        for request in &want.claim.requests {
            let wanted = request.ways.iter().map(|way| Wanted::new(room, want, way, &class, until));
            of_claim.push(wanted.collect::<Result<Vec<_>, _>>()?);
        }
        ways.push(of_claim);
    }
    let given = vec![Vec::new(); wants.len()];
    let mut search = Search { room, wants, ways, given, left: MOST_STEPS, until };
    Ok(search.claims(0)?.then_some(search.given))
}

/// One way to serve a request, and which devices it is known to suit.
struct Wanted<'w> {
    class: &'w Class,
    need: usize,
    /// Those that `All` means.
    all: Vec<usize>,
    /// What is taken of a device that suits, once that was asked; `None`: it does not.
    suits: BTreeMap<usize, Option<Rc<Amounts>>>,
}

impl<'w> Wanted<'w> {
    fn new(
        room: &Room<'_>,
        want: &Want<'w>,
        way: &Way,
        class: impl Fn(&str) -> Option<&'w Class>,
        until: Option<Instant>,
    ) -> Result<Self, Fault> {
        let fault = |what: String| format!("claim {}, request {}: {what}", want.key, way.name);
        let name = &way.class;
        let class = class(name).ok_or_else(|| fault(format!("could not retrieve device class {name}")))?;
        if let Some(at) = want.claim.constraints.iter().position(|c| c.rule == ConstraintRule::Unknown) {
            let claim = &want.key;
            let what =
                format!("claim {claim}, constraint #{at}: empty constraint (unsupported constraint type?)");
            return Err(what.into());
        }
        let mut wanted = Self { class, need: 0, all: Vec::new(), suits: BTreeMap::new() };
        match way.count {
            Count::Exactly(count) => wanted.need = count,
            Count::Unknown => return Err(fault("unsupported count mode".to_owned()).into()),
            Count::All => {
                for pool in &room.pools {
                    let why = match pool.state {
                        PoolState::Whole => continue,
                        PoolState::Incomplete => "being updated",
                        PoolState::Invalid => "invalid",
                    };
                    let (driver, name) = (pool.driver, pool.name);
                    let what =
                        format!("asks for all devices, but resource pool {driver}/{name} is currently {why}");
                    return Err(fault(what).into());
                }
                for at in 0..room.offers.len() {
                    in_time(until)?;
                    if wanted.suits(room, want, way, at)?.is_some() {
                        wanted.all.push(at);
                    }
                }
                wanted.need = wanted.all.len();
            }
        }
        Ok(wanted)
    }

    /// Whether the device is of the class, what the request selects, and as large as it asks; and what it takes then.
    fn suits(
        &mut self,
        room: &Room<'_>,
        want: &Want<'_>,
        way: &Way,
        at: usize,
    ) -> Result<Option<Rc<Amounts>>, String> {
        if let Some(known) = self.suits.get(&at) {
            return Ok(known.clone());
        }
        let device = room.offers[at].device;
        let share = if self.selects(want, way, device)? {
            let fault =
                |why| format!("claim {}, request {} on device {}: {why}", want.key, way.name, device.id);
            share(device, &way.capacity).map_err(fault)?.map(Rc::new)
        } else {
            None
        };
        self.suits.insert(at, share.clone());
        Ok(share)
    }

    fn selects(&self, want: &Want<'_>, way: &Way, device: &Device) -> Result<bool, String> {
        let of_class = self.class.selectors.iter().enumerate().map(|s| (Some(&way.class), s));
        let of_claim = way.selectors.iter().enumerate().map(|s| (None, s));
        for (class, (i, selector)) in of_class.chain(of_claim) {
            let by = || match class {
                Some(class) => format!("class {class}: selector #{i}"),
                None => format!("claim {}: selector #{i}", want.key),
            };
            let unknown = || format!("{}: CEL expression empty (unsupported selector type?)", by());
            let selected = selector.as_ref().ok_or_else(unknown)?.selects(device);
            if !selected.map_err(|why| format!("{} on device {}: {why}", by(), device.id))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

struct Search<'s, 'a, 'w> {
    room: &'s Room<'a>,
    wants: &'s [Want<'w>],
    /// By claim, request and way.
    ways: Vec<Vec<Vec<Wanted<'w>>>>,
    /// By claim.
    given: Vec<Vec<Given<'a>>>,
    /// Steps.
    left: usize,
    until: Option<Instant>,
}

/// A way to serve a request of a claim, by their places.
#[derive(Clone, Copy)]
struct Place {
    claim: usize,
    request: usize,
    way: usize,
}

impl<'w> Search<'_, '_, 'w> {
    fn claims(&mut self, claim: usize) -> Result<bool, Fault> {
        if claim == self.wants.len() { Ok(true) } else { self.requests(claim, 0) }
    }

    fn requests(&mut self, claim: usize, request: usize) -> Result<bool, Fault> {
        let Some(of) = self.wants[claim].claim.requests.get(request) else { return self.claims(claim + 1) };
        for way in 0..of.ways.len() {
            if self.devices(Place { claim, request, way }, 0, 0)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds the devices after the first `had` ones, from an offer on: which of them comes first makes no difference.
    fn devices(&mut self, at: Place, had: usize, from: usize) -> Result<bool, Fault> {
        let wanted = &self.ways[at.claim][at.request][at.way];
        let (need, is_all) = (wanted.need, self.way(at).count == Count::All);
        if is_all && need == 0 || self.given[at.claim].len() + need - had > MOST_RESULTS {
            return Ok(false);
        }
        if had == need {
            return self.requests(at.claim, at.request + 1);
        }
        if is_all {
            let offer = wanted.all[had];
            return self.attempt(at, had, offer);
        }
        for offer in from..self.room.offers.len() {
            if self.room.pools[self.room.offers[offer].pool].state == PoolState::Whole
                && self.attempt(at, had, offer)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Supposes that the claim gets the device, and goes on.
    fn attempt(&mut self, at: Place, had: usize, offer: usize) -> Result<bool, Fault> {
        in_time(self.until)?;
        let Some(left) = self.left.checked_sub(1) else { return Ok(false) };
        self.left = left;
        let way = self.way(at);
        if !self.is_free(at, offer) {
            return Ok(false);
        }
        let wanted = &mut self.ways[at.claim][at.request][at.way];
        let Some(share) = wanted.suits(self.room, &self.wants[at.claim], way, offer)? else {
            return Ok(false);
        };
        if !self.fits(at, offer, &share) {
            return Ok(false);
        }
        let offer_of = self.room.offers[offer];
        let share = offer_of.device.allows_multiple.then_some(share);
        self.given[at.claim].push(Given { request: at.request, way: at.way, offer: offer_of, share });
        if self.devices(at, had + 1, offer + 1)? {
            return Ok(true);
        }
        self.given[at.claim].pop();
        Ok(false)
    }

    fn request(&self, at: Place) -> &'w Request {
        &self.wants[at.claim].claim.requests[at.request]
    }

    fn way(&self, at: Place) -> &'w Way {
        &self.request(at).ways[at.way]
    }

    /// Whether nobody has the device, or all of it. Who only looks at it does not mind others, but looks at it once.
    fn is_free(&self, at: Place, offer: usize) -> bool {
        let (offer, is_admin) = (&self.room.offers[offer], self.way(at).is_admin);
        if offer.device.allows_multiple {
            return is_admin || offer.taken.is_none_or(|taken| taken.whole == 0);
        }
        let minded = self.given.iter().enumerate().filter(|(claim, _)| !is_admin || *claim == at.claim);
        let mut minded = minded.flat_map(|(_, given)| given);
        (is_admin || offer.taken.is_none()) && !minded.any(|g| g.is(offer.device))
    }

    /// Whether taints, what is left of it and of its counters, and constraints allow it.
    fn fits(&self, at: Place, offer: usize, share: &Amounts) -> bool {
        let (way, offer) = (self.way(at), &self.room.offers[offer]);
        let device = offer.device;
        let rules = self.room.rules.iter().filter(|rule| rule.covers(&device.id)).map(|rule| &rule.taint);
        if device.taints.iter().chain(rules).any(|taint| keeps_away(taint, &way.tolerations)) {
            return false;
        }
        (!device.allows_multiple || self.has_left(offer, share))
            && self.has_counters(offer)
            && self.keeps_constraints(at, device)
    }

    /// Whether others leave as much of the device's capacities.
    fn has_left(&self, offer: &Offer<'_>, share: &Amounts) -> bool {
        let beside =
            || self.given.iter().flatten().filter(|g| g.is(offer.device)).filter_map(|g| g.share.as_ref());
        share.iter().all(|(name, amount)| {
            let before = offer.taken.and_then(|taken| taken.consumed.get(name));
            let used = before.into_iter().chain(beside().filter_map(|share| share.get(name)));
            let sum = used.copied().sum::<Quantity>() + *amount;
            offer.device.capacity.get(name).is_some_and(|capacity| sum <= capacity.value)
        })
    }

    /// Whether the pool has the counters that the device takes: once, however many share it.
    fn has_counters(&self, offer: &Offer<'_>) -> bool {
        let device = offer.device;
        let beside: Vec<&Given<'_>> =
            self.given.iter().flatten().filter(|g| g.offer.pool == offer.pool).collect();
        if device.consumes.is_empty() || offer.taken.is_some() || beside.iter().any(|g| g.is(device)) {
            return true;
        }
        let is_first = |at: usize| {
            beside[at].offer.taken.is_none() && !beside[..at].iter().any(|g| g.is(beside[at].offer.device))
        };
        device.consumes.iter().all(|(name, need)| {
            let Some(left) = self.room.pools[offer.pool].left.get(name) else { return false };
            let counted = (0..beside.len()).filter(|at| is_first(*at));
            let used = counted.filter_map(|at| beside[at].offer.device.consumes.get(name)).copied();
            used.sum::<Quantity>() + *need <= *left
        })
    }

    fn keeps_constraints(&self, at: Place, device: &Device) -> bool {
        let claim = self.wants[at.claim].claim;
        claim.constraints.iter().filter(|c| c.is_about(self.request(at), self.way(at))).all(|constraint| {
            let (name, is_same) = match &constraint.rule {
                ConstraintRule::Same(name) => (&**name, true),
                ConstraintRule::Distinct(name) => (&**name, false),
                ConstraintRule::Unknown => return false,
            };
            let Some(value) = device.attributes.get(name) else { return false };
            self.given[at.claim].iter().all(|g| {
                let request = &claim.requests[g.request];
                !constraint.is_about(request, &request.ways[g.way])
                    || g.offer.device.attributes.get(name).is_some_and(|other| (other == value) == is_same)
            })
        })
    }
}

#[cfg(test)]
#[path = "allocate_tests.rs"]
pub(super) mod tests;
