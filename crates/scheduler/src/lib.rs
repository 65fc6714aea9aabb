//! Filter, score and bind over an incremental snapshot of the nodes.
