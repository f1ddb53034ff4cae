use serde_json::{Value, json};

use super::{Missing, Subject, Template};

fn container() -> Value {
    json!({
        "Name": "/web", "Created": "2024-01-01", "Size": 1234567, "Ratio": 0.5, "Args": ["-c", "true"],
        "State": { "Running": true, "Pid": 12, "Status": "running", "Health": null },
        "Config": { "Labels": { "b": "2", "a": "1" }, "Image": "busybox" },
        "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }], "443/tcp": null },
    })
}

fn render(template: &str) -> Result<String, String> {
    let template = Template::parse(template).map_err(|e| e.to_string())?;
    template.render(&container(), Missing::NoEntry).map_err(|e| e.to_string())
}

#[track_caller]
fn check(template: &str, wanted: &str) {
    assert_eq!(render(template).as_deref(), Ok(wanted), "{template}");
}

#[track_caller]
fn check_error(template: &str, wanted: &str) {
    assert_eq!(render(template), Err(wanted.to_owned()), "{template}");
}

#[test]
fn fields_are_followed() {
    check("{{.Name}} {{.State.Running}} {{.State.Pid}} {{.Ratio}}", "/web true 12 0.5");
    check("{{$.Name}}{{with .State}}{{.Status}}{{$.Name}}{{end}}", "/webrunning/web");
    check("{{.Args}} {{.Config.Labels}} {{.State.Health}}", "[-c true] map[a:1 b:2] <no value>");
    check("{{.Config.Labels.a}} {{.Config.Labels.none}}", "1 <no value>");
    check("{{(index .Ports \"80/tcp\" 0).HostPort}}", "8080");
    check("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080");
}

#[test]
fn json_keeps_the_order_of_members() {
    check("{{json .State}}", r#"{"Running":true,"Pid":12,"Status":"running","Health":null}"#);
    check("{{.Args | json}} {{json .Name}}", r#"["-c","true"] "/web""#);
}

#[test]
fn branches_and_loops() {
    check("{{if .State.Running}}up{{else}}down{{end}}", "up");
    check("{{if .State.Health}}a{{else if eq .State.Pid 12}}b{{else}}c{{end}}", "b");
    check("{{range $n, $a := .Args}}{{$n}}={{$a}};{{end}}", "0=-c;1=true;");
    check("{{range .Args}}{{.}} {{else}}none{{end}}", "-c true ");
    check("{{range .State.Health}}x{{else}}none{{end}}", "none");
    check("{{range $p, $c := .Ports}}{{$p}} {{end}}", "443/tcp 80/tcp ");
    check("{{range $p, $c := .Ports}}{{if not $c}}{{continue}}{{end}}{{$p}}{{end}}", "80/tcp");
    check("{{range .Args}}{{.}}{{break}}{{end}}", "-c");
    check("{{$x := 1}}{{range .Args}}{{$x = len .}}{{end}}{{$x}}", "4");
    check("{{with .State.Health}}a{{else}}b{{end}}", "b");
}

#[test]
fn white_space_and_comments_go() {
    check("a  {{- .Name -}}  b", "a/webb");
    check("a {{/* what */}} b{{- /* and */ -}} c", "a  bc");
    check("{{ .Name }}\n{{\"x\\ty\"}}{{`raw\\n`}}", "/web\nx\tyraw\\n");
}

#[test]
fn functions() {
    check("{{len .Args}} {{len .Name}} {{len .State.Health}}", "2 4 0");
    check("{{upper .Name}} {{lower \"AbC\"}} {{title \"some words\"}}", "/WEB abc Some Words");
    check("{{join .Args \", \"}} {{split \"a:b\" \":\"}} {{truncate .Name 2}}", "-c, true [a b] /w");
    check("{{pad .Name 1 2}}|{{pad \"\" 1 1}}|", " /web  ||");
    check(
        "{{printf \"%s is %d, %5.2f%% %q %v %-6s| %05d\" .Name 3 .Ratio \"a\" true \"ab\" 42}}",
        "/web is 3,  0.50% \"a\" true ab    | 00042",
    );
    check("{{printf \"%d\"}} {{printf \"%d\" \"a\"}}", "%!d(MISSING) %!d(string=a)");
    check("{{print 1 2 \"a\" \"b\" 3}} {{println .Name}}", "1 2ab3 /web\n");
    check("{{and .Name .Size}} {{or .State.Health \"none\"}} {{not true}}", "1234567 none false");
    check("{{eq 1 2 1}} {{ne \"a\" \"b\"}} {{lt 1 2}} {{ge \"b\" \"a\"}}", "true true true true");
    check("{{slice .Name 1 3}} {{index .Args 1}} {{index .Config.Labels \"no\"}}", "we true <no value>");
    check("{{html \"<a>\"}} {{urlquery \"a b&\"}}", "&lt;a&gt; a+b%26");
    check("{{.Name | printf \"%s-%s\" \"x\"}}", "x-/web");
}

#[test]
fn mistakes_are_told_in_gos_words() {
    check_error("{{.Nope}}", r#"template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope""#);
    check_error(
        "{{.State.Health.Status}}",
        r#"template: :1:8: executing "" at <.State.Health.Status>: nil pointer evaluating interface {}.Status"#,
    );
    check_error("{{", "template: :1: unclosed action");
    check_error("{{nope .}}", "template: :1: function \"nope\" not defined");
    check_error("{{if .Name}}x", "template: :1: unexpected EOF");
    check_error("{{.Name}}{{end}}", "template: :1: unexpected {{end}}");
    check_error("{{$x}}", "template: :1: undefined variable \"$x\"");
    check_error("{{}}", "template: :1: missing value for command");
    check_error(
        "{{index .Args 9}}",
        r#"template: :1:2: executing "" at <index>: error calling index: index out of range: 9"#,
    );
    check_error("{{\"abc}}", "template: :1: unterminated quoted string");
}

#[test]
fn no_text_makes_it_panic() {
    let pieces = [
        "{{", "}}", ".", "$", "a", "(", ")", "|", "\"", "`", "if ", "end", "else ", "range ", "-", " ", ":=",
        "é", "1",
    ];
    // Every sequence of four of them, as far as it is cheap: what comes out does not matter here.
    for a in pieces {
        for b in pieces {
            for c in pieces {
                for d in pieces {
                    drop(render(&format!("{{{{{a}{b}{c}{d}")));
                    drop(render(&format!("{{{{{a}{b}{c}{d}}}}}{{{{end}}}}")));
                }
            }
        }
    }
}

#[test]
fn rows_have_labels_and_known_fields() {
    let (row, labels) = (json!({ "ID": "abc" }), json!({ "a.b-c": "x" }));
    let subject = Subject {
        value: &row,
        labels: labels.as_object(),
        missing: Missing::Unknown("Container"),
        header: false,
    };
    let render =
        |text: &str| Template::parse(text).unwrap().render_subject(subject).map_err(|e| e.to_string());
    assert_eq!(render("{{.ID}} {{.Label \"a.b-c\"}}{{.Label \"no\"}}").unwrap(), "abc x");
    let error = render("{{.Nope}}").unwrap_err();
    assert_eq!(
        error,
        r#"template: :1:2: executing "" at <.Nope>: can't evaluate field Nope in type Container"#
    );
    assert!(Template::parse("{{if .ID}}{{(len .Size)}}{{end}}").unwrap().uses("Size"));
}
