//! Whether the host's kernel has what the network needs, tried out where it disturbs nobody.

use std::{fmt, io};

use futures::FutureExt;
use nix::sched::{CloneFlags, unshare};

use crate::{
    netfilter::{
        Batch, Chain, Data, Hook, Set, Socket,
        expr::{self, Expr},
        ty,
    },
    router::Router,
};

/// Something that the kernel does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What it is, in the kernel's own terms.
    pub feature: &'static str,
    /// The module that brings it.
    pub module: &'static str,
    /// What the kernel said.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing { feature, module, why } = self;
        write!(f, "the kernel lacks {feature} ({why}); load it by `modprobe {module}`")
    }
}

/// Tries each feature in a network namespace of its own, which is gone afterwards, and names those that are missing.
/// Takes some ten milliseconds.
///
/// # Errors
/// No network namespace could be made: the process is not root, or the kernel has none.
pub async fn preflight() -> io::Result<Vec<Missing>> {
    let runtime = tokio::runtime::Handle::current();
    let (done, outcome) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("preflight".into()).spawn(move || {
        let missing = unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from).and_then(|()| {
            let router = {
                let _inside = runtime.enter();
                Router::here()
            }?;
            let mut missing = rules();
            missing.extend(runtime.block_on(links(&router)));
            Ok(missing)
        });
        // Nobody listens if the caller was cancelled.
        let _ = done.send(missing);
    })?;
    outcome.await.map_err(|_| io::Error::other("the preflight's thread died"))?
}

async fn links(router: &Router) -> Vec<Missing> {
    let bridge = router.bridge("preflight", [10, 0, 0, 1].into(), 1500).map(|made| made.map(drop));
    let veth = router.veth_pair("preflight0", "preflight1");
    let tried = [("bridges", "bridge", bridge.await), ("veth pairs", "veth", veth.await)];
    let failed = |(feature, module, made): (_, _, Result<(), crate::LinkError>)| {
        Some(Missing { feature, module, why: made.err()?.to_string() })
    };
    tried.into_iter().filter_map(failed).collect()
}

const TABLE: &str = "preflight";
const CHAIN: &str = "chain";
const MAP: &str = "map";

fn rules() -> Vec<Missing> {
    let mut socket = match Socket::open() {
        Ok(socket) => socket,
        Err(error) => {
            return vec![Missing {
                feature: "netfilter's netlink",
                module: "nfnetlink",
                why: error.to_string(),
            }];
        }
    };
    let mut tried = |feature, module, hook, rule| attempt(&mut socket, feature, module, hook, rule);
    let filter = Hook::filter_prerouting(0);
    // Without the first, none of the others can be told apart.
    if let Some(missing) = tried("nf_tables", "nf_tables", filter, vec![expr::drop_packet()]) {
        return vec![missing];
    }
    let dnat = vec![expr::address(0, [10, 0, 0, 1].into()), expr::dport(1), expr::dnat(0)];
    [
        tried("nf_tables' nat chains", "nft_chain_nat", Hook::NAT_OUTPUT, vec![expr::drop_packet()]),
        tried("nf_tables' dnat", "nft_nat", Hook::NAT_PREROUTING, dnat),
        tried("nf_tables' masquerade", "nft_masq", Hook::NAT_POSTROUTING, vec![expr::masquerade()]),
        tried("nf_tables' reject", "nft_reject_ipv4", filter, vec![expr::reject_unreachable()]),
        tried("nf_tables' fib", "nft_fib_ipv4", filter, vec![expr::fib_daddr_type(0)]),
        tried("nf_tables' numgen", "nft_numgen", filter, vec![expr::round_robin(0, 2)]),
        tried("nf_tables' conntrack state", "nft_ct", filter, expr::new_connection().into()),
        tried(
            "nf_tables' dynamic sets",
            "nf_tables",
            filter,
            vec![expr::mark(0), expr::remember(MAP, 0, 0, 1000), expr::forget(MAP, 0, 0)],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn attempt(
    socket: &mut Socket,
    feature: &'static str,
    module: &'static str,
    hook: Hook,
    rule: Vec<Expr>,
) -> Option<Missing> {
    let mut batch = Batch::new();
    batch.replace_table(TABLE);
    batch.add_set(
        TABLE,
        Set {
            name: MAP,
            key: ty::MARK,
            key_len: 4,
            data: Data::Value { ty: ty::MARK, len: 4 },
            dynamic: Some(8),
        },
    );
    batch.add_chain(TABLE, Chain { name: CHAIN, hook: Some(hook) });
    batch.add_rule(TABLE, CHAIN, &rule);
    let why = socket.commit(batch).err()?.to_string();
    Some(Missing { feature, module, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_know_is_named_with_its_remedy() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: making network namespaces takes root");
            return;
        }
        let missing = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let mut socket = Socket::open().unwrap();
            let hook = Hook::filter_prerouting(0);
            assert_eq!(attempt(&mut socket, "dropping", "nf_tables", hook, vec![expr::drop_packet()]), None);
            attempt(&mut socket, "magic", "nft_magic", hook, vec![expr::unheard_of()])
        });
        let told = missing.join().unwrap().unwrap().to_string();
        assert!(
            told.starts_with("the kernel lacks magic (") && told.ends_with("`modprobe nft_magic`"),
            "{told}"
        );
    }
}
