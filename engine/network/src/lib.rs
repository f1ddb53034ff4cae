//! Bridges, veth pairs, addresses and nftables.
