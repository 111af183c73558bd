//! `timeline`: the life of a pod, as a chart in the terminal or as a picture.

use podwright_core::timeline::Timeline;
use serde_json::Value;

use super::args::{Output, Timeline as Args};
use super::chart::{Signs, draw};
use super::client::encode;
use super::context::Context;
use super::error::{CliError, Done};
use super::page::Page;
use super::{output, svg, words};

/// Width of the chart where nothing tells how wide the terminal is, columns.
const DEFAULT_WIDTH: usize = 100;
/// The narrowest and widest chart, columns.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=240;

pub(super) async fn timeline(args: Args, context: &mut Context) -> Done {
    let name = words::charted(&args.what).map_err(CliError::Usage)?;
    let target =
        format!("/apis/podwright.dev/v1/namespaces/{}/pods/{}/timeline", encode(&args.namespace), encode(&name));
    let answer = context.client.get(&target).await?;
    let timeline = parse(context, &answer)?;
    if let Some(path) = &args.svg {
        std::fs::write(path, svg::draw(&timeline))
            .map_err(|error| CliError::Failed(format!("cannot write {}: {error}", path.display())))?;
        let done = format!("the timeline of pod \"{name}\" is in {}", path.display());
        return context.out.print(&Page::of_line(done));
    }
    if let Some(data) = output::object(args.output.map(Output::from), &answer) {
        return context.out.data(&data);
    }
    let width = args.width.unwrap_or_else(terminal_width).clamp(*WIDTHS.start(), *WIDTHS.end());
    context.out.print(&draw(&timeline, width, if args.ascii { Signs::Ascii } else { Signs::Unicode }, context.style))
}

fn parse(context: &Context, answer: &Value) -> Result<Timeline, CliError> {
    let timeline = serde_json::from_value(answer.clone());
    timeline.map_err(|error| CliError::Client(context.client.broken(format!("its answer is no timeline: {error}"))))
}

fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    columns.or_else(terminal).unwrap_or(DEFAULT_WIDTH)
}
