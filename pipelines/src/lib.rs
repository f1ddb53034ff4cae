//! The pipeline.yaml model: parse, check, expand, order. No I/O.
