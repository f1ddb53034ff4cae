/// The fields of a line of comma-separated values, where quotes keep commas, as options such as `--mount` have them.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut rest) = (Vec::new(), line);
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut inside = quoted;
            rest = loop {
                let end = inside
                    .find('"')
                    .ok_or_else(|| format!("extraneous or missing \" in quoted-field: {line}"))?;
                field.push_str(&inside[..end]);
                match inside[end + 1..].strip_prefix('"') {
                    // Two of them stand for one.
                    Some(after) => {
                        field.push('"');
                        inside = after;
                    }
                    None => break &inside[end + 1..],
                }
            };
            fields.push(field);
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err(format!("bare \" in non-quoted field: {line}"));
            }
            fields.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(format!("extraneous or missing \" in quoted-field: {line}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quotes_keep_commas() {
        assert_eq!(fields("a=1,b").unwrap(), ["a=1", "b"]);
        assert_eq!(fields("\"a=1,2\",b,\"c\"\"d\"").unwrap(), ["a=1,2", "b", "c\"d"]);
        assert_eq!(fields("").unwrap(), [""]);
        assert!(fields("\"a").is_err() && fields("a\"b").is_err() && fields("\"a\"b").is_err());
    }
}
