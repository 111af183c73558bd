//! `why`: an explanation on one screen.

use podwright_core::objects::Kind;
use podwright_core::pod::why::{Advice, Explanation, Member, Situation};
use serde_json::Value;

use super::args::{Output, Why};
use super::client::encode;
use super::context::Context;
use super::error::{CliError, Done};
use super::page::{Page, Style, Tone};
use super::{output, words};

pub(super) async fn why(args: Why, context: &mut Context) -> Done {
    let (kind, name, container) = words::explained(&args.what, args.container.as_deref()).map_err(CliError::Usage)?;
    let query = container.map(|c| format!("?container={}", encode(&c))).unwrap_or_default();
    let namespace = encode(&args.namespace);
    let (resource, _) = kind.resource();
    let target = format!("/apis/podwright.dev/v1/namespaces/{namespace}/{resource}/{}/why{query}", encode(&name));
    let answer = context.client.get(&target).await?;
    let explanation = parse(context, &answer)?;
    match output::object(args.output.map(Output::from), &answer) {
        Some(data) => context.out.data(&data)?,
        None => context.out.print(&print(&explanation, context.style))?,
    }
    match explanation.situation {
        // It is said already; the exit status tells programs.
        Situation::NotFound | Situation::Rejected => Err(CliError::NotFound(String::new())),
        _ => Ok(()),
    }
}

fn parse(context: &Context, answer: &Value) -> Result<Explanation, CliError> {
    let explanation = serde_json::from_value(answer.clone());
    explanation
        .map_err(|error| CliError::Client(context.client.broken(format!("its answer is no explanation: {error}"))))
}

/// The explanation as text.
pub fn print(explanation: &Explanation, style: Style) -> Page {
    let tone = match explanation.situation {
        Situation::Running | Situation::Succeeded | Situation::Scheduled => Tone::Good,
        situation if situation.is_trouble() => Tone::Bad,
        _ => Tone::Notice,
    };
    let mut out = Page::new(style);
    out.painted(tone, &explanation.summary);
    push(&mut out, &explanation.details);
    if let Some(end) = &explanation.last_end {
        let of = |prefix, name: Option<&String>| name.map_or_else(String::new, |name| format!("{prefix} {name}"));
        let whose = format!("{}{}", of(" of", explanation.container.as_ref()), of(" in pod", end.pod.as_ref()));
        heading(&mut out, &format!("Last end{whose}"));
        push(&mut out, std::slice::from_ref(&end.text));
        push(&mut out, end.asked.as_slice());
        if !end.output.is_empty() {
            push(&mut out, &["the last that it wrote:".to_owned()]);
            for line in &end.output {
                out.part(Tone::Normal, "  ");
                out.painted(Tone::Faint, format_args!("| {line}"));
            }
        }
    }
    for (title, lines) in [("Figures", &explanation.figures), ("Changed since it last worked", &explanation.changes)] {
        if !lines.is_empty() {
            heading(&mut out, title);
            push(&mut out, lines);
        }
    }
    if !explanation.advice.is_empty() {
        heading(&mut out, "What to do");
        push(&mut out, &explanation.advice.iter().map(advice).collect::<Vec<_>>());
    }
    if !explanation.containers.is_empty() {
        heading(&mut out, "Containers");
        let width = explanation.containers.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
        let one = |c: &podwright_core::pod::why::ContainerLine| format!("{:width$}  {:7}  {}", c.name, c.role, c.text);
        push(&mut out, &explanation.containers.iter().map(one).collect::<Vec<_>>());
    }
    if !explanation.members.is_empty() {
        heading(&mut out, if explanation.about == Kind::CronJob { "Jobs" } else { "Pods" });
        let width = explanation.members.iter().map(|m| m.name.chars().count()).max().unwrap_or(0);
        let one = |m: &Member| format!("{:width$}  {}", m.name, m.text);
        push(&mut out, &explanation.members.iter().map(one).collect::<Vec<_>>());
    }
    out
}

fn heading(out: &mut Page, title: &str) {
    out.end_line();
    out.painted(Tone::Heading, title);
}

fn push(out: &mut Page, lines: &[String]) {
    for line in lines {
        out.line(format_args!("  {line}"));
    }
}

fn advice(advice: &Advice) -> String {
    match (&advice.with, advice.text.as_str()) {
        (Some(with), "") => with.clone(),
        (Some(with), text) => format!("{text}: {with}"),
        (None, text) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwright_core::pod::why::{ContainerLine, LastEnd};

    #[test]
    fn every_part_has_its_place() {
        let summary = "default/web: main server keeps ending".to_owned();
        let explanation = Explanation {
            container: Some("server".into()),
            phase: "Running".into(),
            details: vec!["it starts again in 4 s".into()],
            last_end: Some(LastEnd {
                pod: None,
                attempt: 3,
                text: "run 3: it was killed".into(),
                asked: Some("nobody asked".into()),
                output: vec!["loading".into()],
            }),
            figures: vec!["memory: peak 64 MiB, limit 64 MiB".into()],
            advice: vec![
                Advice { text: "raise the limit".into(), with: Some("spec.x".into()) },
                Advice { text: String::new(), with: Some("journalctl".into()) },
            ],
            containers: vec![ContainerLine { name: "proxy".into(), role: "sidecar".into(), text: "runs".into() }],
            ..Explanation::new(Kind::Pod, ("default", "web"), Situation::OutOfMemory, summary)
        };
        let expected = "\
default/web: main server keeps ending
  it starts again in 4 s

Last end of server
  run 3: it was killed
  nobody asked
  the last that it wrote:
  | loading

Figures
  memory: peak 64 MiB, limit 64 MiB

What to do
  raise the limit: spec.x
  journalctl

Containers
  proxy  sidecar  runs
";
        assert_eq!(print(&explanation, Style::Plain).as_str(), expected);
        assert!(print(&explanation, Style::Coloured).as_str().starts_with("\x1b[31mdefault/web"));
        let mut job = Explanation::new(Kind::Job, ("default", "j"), Situation::Failed, "default/j failed".into());
        job.container = Some("main".into());
        job.last_end = explanation.last_end.map(|end| LastEnd { pod: Some("j-x".into()), output: Vec::new(), ..end });
        job.members.push(Member { name: "j-y".into(), text: "runs".into() });
        let expected = "\
default/j failed

Last end of main in pod j-x
  run 3: it was killed
  nobody asked

Pods
  j-y  runs
";
        assert_eq!(print(&job, Style::Plain).as_str(), expected);
    }
}
