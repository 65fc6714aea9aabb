//! One nf_tables transaction, as bytes.

use super::expr::Expr;

// linux/netfilter/nfnetlink.h and nf_tables.h
const SUBSYS_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;

const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_CREATE: u16 = 0x400;
const F_APPEND: u16 = 0x800;

pub(super) const FAMILY_IPV4: u8 = 2;
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;

/// An attribute's length is 16 bits; a list of elements is cut into messages well below that.
const LIST_LIMIT: usize = 48 * 1024;

/// nft's numbers of data types. The kernel carries them without looking; `nft list` prints by them.
pub(crate) mod ty {
    pub(crate) const IPV4: u32 = 7;
    pub(crate) const PROTO: u32 = 12;
    pub(crate) const PORT: u32 = 13;
    pub(crate) const MARK: u32 = 19;

    /// The type of a concatenation, as nft numbers it: six bits a part.
    pub(crate) const fn concat(parts: &[u32]) -> u32 {
        let mut all = 0;
        let mut at = 0;
        while at < parts.len() {
            all = all << 6 | parts[at];
            at += 1;
        }
        all
    }
}

/// Appends attributes to a message.
pub(crate) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.sized(kind, value.len());
        self.0.extend_from_slice(value);
        self.pad();
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.sized(kind, value.len() + 1);
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
        self.pad();
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.sized(kind | NESTED, 0);
        fill(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn sized(&mut self, kind: u16, value: usize) {
        self.0.extend_from_slice(&(value as u16 + 4).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
    }
}

/// Where a base chain is hooked in.
#[derive(Clone, Copy)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

impl Hook {
    const fn at(kind: &'static str, number: u32, priority: i32) -> Hook {
        Hook { kind, number, priority }
    }
    pub(crate) const fn filter_prerouting(priority: i32) -> Hook {
        Hook::at("filter", 0, priority)
    }
    pub(crate) const fn filter_output(priority: i32) -> Hook {
        Hook::at("filter", 3, priority)
    }
    pub(crate) const NAT_PREROUTING: Hook = Hook::at("nat", 0, -100);
    pub(crate) const NAT_OUTPUT: Hook = Hook::at("nat", 3, -100);
    pub(crate) const NAT_POSTROUTING: Hook = Hook::at("nat", 4, 100);
}

/// A chain to add. Without a hook it is only reached by jumps.
pub(crate) struct Chain<'a> {
    pub(crate) name: &'a str,
    pub(crate) hook: Option<Hook>,
}

/// What a set's elements carry beside their key.
#[derive(Clone, Copy)]
pub(crate) enum Data {
    None,
    Value { ty: u32, len: u32 },
    Verdict,
}

/// A set or map to add. Keys of several fields are concatenations, each field padded to four bytes.
pub(crate) struct Set<'a> {
    pub(crate) name: &'a str,
    pub(crate) key: u32,
    pub(crate) key_len: u32,
    pub(crate) data: Data,
    /// Elements are added by packets and time out; holds at most so many.
    pub(crate) dynamic: Option<u32>,
}

/// What an element of a set maps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element<'a> {
    Plain,
    Value(&'a [u8]),
    Goto(&'a str),
}

/// One transaction: the kernel applies all of it or nothing.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    last: usize,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        let mut batch = Batch { bytes: Vec::with_capacity(4096), sequence: 0, last: 0 };
        batch.message(BATCH_BEGIN, 0, 0, SUBSYS_NFTABLES, |_| {});
        batch
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sequence == 1
    }

    /// Makes the table afresh: whatever it held is gone when the transaction commits, and not before.
    pub(crate) fn replace_table(&mut self, table: &str) {
        // Deleting what may not be there fails, adding what is there does not.
        self.table(NEWTABLE, table);
        self.table(DELTABLE, table);
        self.table(NEWTABLE, table);
    }

    /// Removes the table, whether it exists or not.
    pub(crate) fn remove_table(&mut self, table: &str) {
        self.table(NEWTABLE, table);
        self.table(DELTABLE, table);
    }

    fn table(&mut self, kind: u16, table: &str) {
        self.nft(kind, F_CREATE, |a| a.text(1, table));
    }

    pub(crate) fn add_chain(&mut self, table: &str, chain: Chain<'_>) {
        self.nft(NEWCHAIN, F_CREATE, |a| {
            a.text(1, table);
            a.text(3, chain.name);
            if let Some(hook) = chain.hook {
                a.nest(4, |a| {
                    a.u32(1, hook.number);
                    a.u32(2, hook.priority as u32);
                });
                a.text(7, hook.kind);
            }
        });
    }

    /// Removes a chain and its rules. Nothing may refer to it any more.
    pub(crate) fn remove_chain(&mut self, table: &str, chain: &str) {
        self.nft(DELCHAIN, 0, |a| {
            a.text(1, table);
            a.text(3, chain);
        });
    }

    pub(crate) fn add_rule(&mut self, table: &str, chain: &str, rule: &[Expr]) {
        self.nft(NEWRULE, F_CREATE | F_APPEND, |a| {
            a.text(1, table);
            a.text(2, chain);
            a.nest(4, |a| {
                for expr in rule {
                    a.nest(1, |a| expr.write(a));
                }
            });
        });
    }

    pub(crate) fn add_set(&mut self, table: &str, set: Set<'_>) {
        const MAP: u32 = 0x8;
        const TIMEOUT: u32 = 0x10;
        const EVAL: u32 = 0x20;
        let id = self.sequence;
        let mut flags = 0;
        if !matches!(set.data, Data::None) {
            flags |= MAP;
        }
        if set.dynamic.is_some() {
            flags |= TIMEOUT | EVAL;
        }
        self.nft(NEWSET, F_CREATE, |a| {
            a.text(1, table);
            a.text(2, set.name);
            a.u32(3, flags);
            a.u32(4, set.key);
            a.u32(5, set.key_len);
            match set.data {
                Data::None => {}
                Data::Value { ty, len } => {
                    a.u32(6, ty);
                    a.u32(7, len);
                }
                Data::Verdict => a.u32(6, 0xffff_ff00),
            }
            if let Some(size) = set.dynamic {
                a.nest(9, |a| a.u32(1, size));
            }
            a.u32(10, id);
        });
    }

    pub(crate) fn add_elements<'a>(
        &mut self,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = (&'a [u8], Element<'a>)>,
    ) {
        self.elements(NEWSETELEM, F_CREATE, table, set, elements);
    }

    pub(crate) fn remove_elements<'a>(
        &mut self,
        table: &str,
        set: &str,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) {
        self.elements(DELSETELEM, 0, table, set, keys.into_iter().map(|key| (key, Element::Plain)));
    }

    fn elements<'a>(
        &mut self,
        kind: u16,
        flags: u16,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = (&'a [u8], Element<'a>)>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.nft(kind, flags, |a| {
                a.text(1, table);
                a.text(2, set);
                a.nest(3, |a| {
                    let start = a.0.len();
                    while a.0.len() - start < LIST_LIMIT {
                        let Some((key, element)) = elements.next() else { break };
                        a.nest(1, |a| {
                            a.nest(1, |a| a.bytes(1, key));
                            match element {
                                Element::Plain => {}
                                Element::Value(value) => a.nest(2, |a| a.bytes(1, value)),
                                Element::Goto(chain) => a.nest(2, |a| a.nest(2, |a| goto(a, chain))),
                            }
                        });
                    }
                });
            });
        }
    }

    fn nft(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.message(SUBSYS_NFTABLES << 8 | kind, flags, FAMILY_IPV4, 0, fill);
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.last = self.bytes.len();
        message(&mut self.bytes, kind, flags | F_REQUEST, self.sequence, family, resource, fill);
        self.sequence += 1;
    }

    /// The bytes to send, and the sequence number of the message whose acknowledgement ends the transaction.
    pub(super) fn finish(mut self) -> (Vec<u8>, u32) {
        let awaited = self.sequence - 1;
        let flags = u16::from_ne_bytes([self.bytes[self.last + 6], self.bytes[self.last + 7]]) | F_ACK;
        self.bytes[self.last + 6..self.last + 8].copy_from_slice(&flags.to_ne_bytes());
        self.message(BATCH_END, 0, 0, SUBSYS_NFTABLES, |_| {});
        (self.bytes, awaited)
    }
}

pub(super) fn goto(a: &mut Attributes<'_>, chain: &str) {
    const GOTO: i32 = -4;
    a.u32(1, GOTO as u32);
    a.text(2, chain);
}

/// Appends one netfilter message.
pub(super) fn message(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    fill: impl FnOnce(&mut Attributes<'_>),
) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    debug_assert_eq!(bytes.len(), start + HEADER);
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    fill(&mut Attributes(bytes));
    let length = (bytes.len() - start) as u32;
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}
