//! Prints the JSON Schema of `pipeline.yaml`, as it is committed.

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

fn main() {
    println!("{:#}", pipelines::json_schema());
}
