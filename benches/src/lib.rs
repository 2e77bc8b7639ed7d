//! Micro benches of Weir, by criterion: `cargo bench -p benches`. Each stands in `benches/` and measures one leaf;
//! what users see is measured by `weir bench` instead.
