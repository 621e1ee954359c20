use std::io;
use std::path::Path;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use futures_util::stream;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::terminal::{left_behind, show};
use super::*;
use crate::filters::FilterStatus;
use crate::service::status::fetch::{FetchError, Target};
use crate::service::status::{Absence, HoldStatus, MirrorPresence, MissingWorker, Phase, Straggler, made_up};

/// Two moments, three seconds and nine clocks apart.
fn live() -> History {
    let mut history = History::once(made_up::fetched(109));
    history.push(Duration::from_secs(3), made_up::fetched(118));
    history
}

fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/program/view/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).expect("a snapshot");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; UPDATE_SNAPSHOTS=1 accepts it:\n{text}");
}

/// What a terminal of this size shows after `keys`.
fn screen(width: u16, height: u16, palette: Palette, keys: &[KeyCode]) -> Terminal<TestBackend> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a buffer");
    runtime.expect("a runtime").block_on(async {
        let mut clock = 106;
        let source = || {
            clock += 3;
            std::future::ready(made_up::fetched(clock))
        };
        let keys: Vec<_> = keys.iter().map(|key| Ok(Event::Key(KeyEvent::from(*key)))).collect();
        // Keys come when there is something to see, and then no more.
        let wait = stream::once(async {
            tokio::time::sleep(Duration::from_millis(3500)).await;
            Ok(Event::FocusGained)
        });
        let events = stream::StreamExt::chain(wait, stream::iter(keys));
        let events = stream::StreamExt::chain(events, stream::pending());
        let end = tokio::time::sleep(Duration::from_millis(3900));
        let ended =
            show(&mut terminal, std::pin::pin!(events), palette, &mut History::default(), source, end).await;
        assert_eq!(ended.expect("a buffer does not fail"), Ended::Done(()));
    });
    terminal
}

fn shown(width: u16, height: u16, keys: &[KeyCode]) -> String {
    let terminal = screen(width, height, Palette::Plain, keys);
    let buffer = terminal.backend().buffer();
    let row =
        |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..height).map(row).collect()
}

#[test]
fn a_page_reads_well_at_any_width() {
    for width in [80, 100, 160] {
        let text = text(&live(), width);
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{text}");
        snapshot(&format!("page-{width}.txt"), &text);
    }
}

#[test]
fn a_single_look_has_no_rates() {
    let text = text(&History::once(made_up::fetched(118)), 80);
    assert!(!text.contains("clocks/s") && !text.contains("sending"), "{text}");
    snapshot("once-80.txt", &text);
}

#[test]
fn filters_are_told_by_their_functions_and_tables_by_their_names() {
    let shown = |change: &dyn Fn(&mut FilterStatus), every: Option<u32>| {
        let mut status = made_up::whole_region();
        for shard in status.servers.iter_mut().flat_map(|server| &mut server.shards) {
            shard.release_every = every;
            shard.filters.iter_mut().for_each(change);
        }
        let mut fetched = gone(7500, None);
        fetched.status = Ok(status);
        let text = text(&History::once(vec![fetched]), 80);
        let line = text.lines().find(|line| line.starts_with("  filter"));
        line.map(str::to_owned)
    };
    let of = |function: &str, threshold: Option<f64>| {
        let function = function.to_owned();
        move |filter: &mut FilterStatus| {
            (filter.function, filter.threshold) = (function.clone(), threshold);
            (filter.significance_threshold, filter.gain) = (Some(0.01), None);
        }
    };
    for (function, threshold, expected) in [
        ("relative", None, "threshold 1 % of the value   4.29 % shipped"),
        ("row-rms", None, "threshold 1 % of the row's rms   4.29 % shipped"),
        ("absolute", Some(0.01), "threshold 0.01   4.29 % shipped"),
        ("mine", None, "threshold 0.01 by mine   4.29 % shipped"),
    ] {
        let line = shown(&of(function, threshold), Some(1));
        assert_eq!(line.as_deref(), Some(&*format!("  filter   {expected}")));
    }
    // Before anything was released, or from a process that does not tell.
    assert_eq!(shown(&|filter| filter.significance_threshold = None, None), None);
    // Of several tables those of which much is updated.
    let mut status = made_up::whole_region();
    let shard = &mut status.servers[0].shards[0];
    let weights = shard.filters[0].clone();
    let other = |table: &str, updated_elements| FilterStatus {
        table: table.to_owned(),
        updated_elements,
        shipped_elements: updated_elements / 2,
        gain: Some(-0.5),
        likeness: Some(-0.25),
        ..weights.clone()
    };
    shard.filters.extend([other("bias", 100), other("more", 1_000_000)]);
    let mut fetched = gone(7500, None);
    fetched.status = Ok(status);
    let text = text(&History::once(vec![fetched]), 100);
    assert!(
        text.contains("  filter   weights 0.0025 (10x usual)   4.29 % shipped   gain 1.7 (alike)\n"),
        "{text}"
    );
    assert!(
        text.contains("           more 0.0025 (10x usual)   50 % shipped   gain -0.5 (opposed)   a release"),
        "{text}"
    );
    assert!(!text.contains("bias"), "{text}");
}

#[test]
fn nothing_that_matters_is_cut() {
    for width in 70..200 {
        let text = text(&live(), width);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in [
            "14 of 15 processes answering",
            "worker 2 waits 1.20 s: barrier of ireland",
            "workers 0, 1 wait 0.31 s: mirror clock of singapore",
            "singapore +6 (limit 6)",
            "objective",
            "round trip",
        ] {
            assert!(words.contains(expected), "no {expected} at {width}:\n{text}");
        }
        // These may be wrapped, and stand beside something else.
        for word in
            ["refused", "2026-11-20", "singapore-1.example.net:7100", "12.3", "http://127.0.0.1:7513:"]
        {
            assert!(words.contains(word), "no {word} at {width}:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{width}\n{text}");
    }
}

#[test]
fn a_terminal_shows_head_body_and_keys() {
    snapshot("screen-80x40.txt", &shown(80, 40, &[]));
    snapshot("screen-160x40.txt", &shown(160, 40, &[]));
}

#[test]
fn a_low_terminal_scrolls() {
    snapshot("screen-80x12.txt", &shown(80, 12, &[KeyCode::Down, KeyCode::Down, KeyCode::Down, KeyCode::Up]));
    let end = shown(80, 12, &[KeyCode::End]);
    assert!(end.contains("lines above") && !end.contains("below"), "{end}");
    assert_eq!(shown(80, 12, &[KeyCode::End, KeyCode::Home]), shown(80, 12, &[]));
    assert_eq!(shown(80, 12, &[KeyCode::PageDown, KeyCode::PageUp]), shown(80, 12, &[]));
    for (width, height) in [(1, 1), (80, 1), (80, 3), (10, 5), (300, 2), (60, 200)] {
        shown(width, height, &[KeyCode::End, KeyCode::Up]);
    }
}

#[test]
fn keys_end_the_view_and_so_does_the_end_of_all_keys() {
    let control = |key| KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
    for keys in [
        vec![KeyEvent::from(KeyCode::Char('q'))],
        vec![KeyEvent::from(KeyCode::Esc)],
        vec![KeyEvent::from(KeyCode::Char('c')), KeyEvent::from(KeyCode::Down), control('c')],
        vec![],
    ] {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a buffer");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let keys = stream::iter(keys.into_iter().map(|key| io::Result::Ok(Event::Key(key))));
        // A process that never answers does not keep the keys waiting.
        let source = std::future::pending;
        let ended = runtime.expect("a runtime").block_on(show(
            &mut terminal,
            keys,
            Palette::Plain,
            &mut History::default(),
            source,
            std::future::pending::<()>(),
        ));
        assert_eq!(ended.expect("a buffer does not fail"), Ended::Quit);
    }
}

#[test]
fn without_colours_there_is_no_style_at_all() {
    let is_styled = |palette| {
        let terminal = screen(80, 40, palette, &[]);
        terminal
            .backend()
            .buffer()
            .content
            .iter()
            .any(|cell| cell.fg != Color::Reset || !cell.modifier.is_empty())
    };
    assert!(is_styled(Palette::Coloured));
    assert!(!is_styled(Palette::Plain));
}

#[test]
fn who_fell_silent_keeps_a_name_and_who_never_spoke_has_a_place() {
    let target = |port: u16| Target::from(format!("127.0.0.1:{port}").parse::<Url>().expect("a URL"));
    let silent =
        |port| Fetched { target: target(port), status: Err(FetchError::TimedOut(Duration::from_secs(1))) };
    let status = made_up::processes(5).swap_remove(1);
    let mut history = History::once(vec![Fetched { target: target(1), status: Ok(status) }, silent(2)]);
    history.push(Duration::from_secs(1), vec![silent(1), silent(2)]);
    let text = text(&history, 100);
    assert!(text.contains("virginia   1 silent"), "{text}");
    assert!(text.contains("silent   server-1 at http://127.0.0.1:1: no answer within 1s"), "{text}");
    assert!(text.contains("silent   http://127.0.0.1:2: no answer within 1s"), "{text}");
}

/// What comes of asking somebody who does not answer.
fn gone(port: u16, name: Option<(&str, &str)>) -> Fetched {
    let url = format!("127.0.0.1:{port}").parse().expect("a URL");
    let name = name.map(|(region, role)| (region.to_owned(), role.to_owned()));
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    Fetched { target: Target { url, name }, status: Err(FetchError::Connect(refused)) }
}

#[test]
fn one_process_of_a_whole_region_stands_for_all_addresses_in_its_file() {
    let answers = |phase| {
        let mut fetched = gone(7500, Some(("virginia", "server-0")));
        let mut status = made_up::whole_region();
        (status.phase, status.waiting_for) = (phase, vec![]);
        fetched.status = Ok(status);
        fetched
    };
    let others = || {
        let roles = ["server-1", "worker-0", "worker-1", "worker-2"];
        let others = roles.into_iter().zip(7501..).map(|(role, port)| gone(port, Some(("virginia", role))));
        others.chain([gone(7510, Some(("ireland", "server-0")))])
    };
    let mut history = History::once([answers(Phase::Training)].into_iter().chain(others()).collect());
    let shown = text(&history, 100);
    assert!(shown.contains("1 of 2 processes answering"), "{shown}");
    assert!(!shown.contains("worker-1") && shown.contains("server-0 at http://127.0.0.1:7510"), "{shown}");
    let urls: Vec<_> = history.latest().iter().map(|fetched| fetched.target.url.to_string()).collect();
    assert_eq!(urls, ["http://127.0.0.1:7500", "http://127.0.0.1:7510"]);

    // Still so when it has come to its end,
    history.push(Duration::from_secs(1), [answers(Phase::Finished)].into_iter().chain(others()).collect());
    let all_gone = || [gone(7500, Some(("virginia", "server-0")))].into_iter().chain(others()).collect();
    history.push(Duration::from_secs(2), all_gone());
    let shown = text(&history, 100);
    assert!(shown.contains("region: finished, no longer answers"), "{shown}");
    assert!(shown.contains("0 of 2 processes answering, 1 ended") && !shown.contains("worker-1"), "{shown}");
    // and no more when the region runs as one process each: then its silent ones are missed.
    let mut alone = gone(7500, None);
    alone.status = Ok(made_up::processes(3).swap_remove(0));
    history.push(Duration::from_secs(3), [alone].into_iter().chain(others()).collect());
    let shown = text(&history, 100);
    assert!(shown.contains("worker-1 at http://127.0.0.1:7503"), "{shown}");
}

#[test]
fn who_finished_is_not_taken_for_one_who_crashed() {
    let mut history = History::once(made_up::fetched(199));
    history.push(Duration::from_secs(1), made_up::fetched(200));
    let mut all = made_up::fetched(200);
    for fetched in &mut all {
        *fetched = Fetched { target: fetched.target.clone(), status: gone(1, None).status };
    }
    history.push(Duration::from_secs(2), all);
    let shown = text(&history, 100);
    // Two of singapore's were not done: one never answered, one waited.
    for expected in [
        "0 of 15 processes answering, 13 ended",
        "virginia   finished ",
        "clock      200 of 200",
        "objective 0.1231",
        "server-0, server-1, worker-0, worker-1, worker-2: finished, no longer answer",
        "singapore  finished, 2 silent",
        "worker-2 at http://127.0.0.1:7514: no connection",
    ] {
        assert!(shown.contains(expected), "no {expected}:\n{shown}");
    }
    assert!(shown.contains("ran 79 s"), "{shown}");
    let virginia = shown.split("ireland  ").next().expect("it is first");
    for unexpected in ["silent", "held", "clocks/s", "connected"] {
        assert!(!virginia.contains(unexpected), "{unexpected}:\n{shown}");
    }
}

#[test]
fn all_who_finished_have_finished_and_who_was_stopped_was_stopped() {
    let process = |phase, port| {
        let mut fetched = gone(port, None);
        let mut status = made_up::processes(200).swap_remove(usize::from(port));
        status.phase = phase;
        fetched.status = Ok(status);
        fetched
    };
    let mut history = History::once(vec![process(Phase::Finished, 0), process(Phase::Finished, 2)]);
    history.push(Duration::from_secs(1), vec![gone(0, None), gone(2, None)]);
    let shown = text(&history, 80);
    assert!(shown.contains("2 processes finished"), "{shown}");
    let mut history = History::once(vec![process(Phase::Training, 0), process(Phase::Draining, 2)]);
    history.push(Duration::from_secs(1), vec![process(Phase::Training, 0), gone(2, None)]);
    let shown = text(&history, 80);
    assert!(shown.contains("1 of 2 processes answering, 1 ended"), "{shown}");
    assert!(shown.contains("virginia   training, 1 stopped "), "{shown}");
    assert!(shown.contains("ended    worker-0: stopped, no longer answers"), "{shown}");
}

#[test]
fn more_is_not_a_fraction_less() {
    for (ratio, expected) in
        [(21.8, "21.8x less than"), (0.58, "1.72x more than"), (1.0, "as much as"), (0.004, "250x more than")]
    {
        let (figure, than) = super::page::saving(ratio);
        assert_eq!(format!("{figure} {than}"), expected);
    }
    let mut all = made_up::fetched(118);
    let links = all.iter_mut().filter_map(|fetched| fetched.status.as_mut().ok());
    for link in links.flat_map(|status| &mut status.servers).flat_map(|server| &mut server.links) {
        link.naive_bytes = link.sent_bytes / 2;
    }
    let shown = text(&History::once(all), 100);
    assert!(shown.contains("2.02x more than every update would take"), "{shown}");
    assert!(!shown.contains("less"), "{shown}");
}

#[test]
fn workers_that_all_wait_do_not_compute() {
    let fetched = |wait_seconds: f64| {
        let mut status = made_up::whole_region();
        status.workers.iter_mut().for_each(|worker| worker.wait_seconds += wait_seconds);
        let mut fetched = gone(1, None);
        fetched.status = Ok(status);
        vec![fetched]
    };
    let mut history = History::once(fetched(0.0));
    history.push(Duration::from_secs(3), fetched(3.0));
    let shown = text(&history, 80);
    assert!(shown.contains(" 0 % computing"), "{shown}");
}

#[test]
fn a_counter_that_starts_again_is_no_rate() {
    let mut history = History::once(made_up::fetched(118));
    history.push(Duration::from_secs(1), made_up::fetched(7));
    let text = text(&history, 160);
    assert!(text.contains("0.00 clocks/s") && !text.contains("to go"), "{text}");
}

#[test]
fn odd_things_are_said_and_not_hidden() {
    let mut all = made_up::fetched(200);
    let Ok(status) = &mut all[0].status else { panic!("virginia's first server answers") };
    status.job.digest = "another".to_owned();
    status.certificates[0].seconds_to_expiry = -5.0;
    status.phase = Phase::Draining;
    let text = text(&History::once(all), 80);
    for expected in [
        "these processes do not train the same job",
        "virginia.server.gaia has expired",
        "1 draining, 4 finished",
        "2 (unknown authority, WAN)",
    ] {
        assert!(text.contains(expected), "no {expected}:\n{text}");
    }
}

#[test]
fn a_history_forgets() {
    let mut history = History::default();
    for second in 0..100 {
        history.push(Duration::from_secs(second), vec![]);
    }
    assert_eq!(history.moments.len(), 6);
    assert_eq!(history.before().expect("an earlier moment").1, 5.0);
}

#[test]
fn who_is_waited_for_or_gone_has_a_name() {
    let mut fetched = made_up::fetched(118);
    let Ok(status) = &mut fetched[0].status else { unreachable!("virginia's first server answers") };
    let missing = |worker, state, seconds, reason: Option<&str>| MissingWorker {
        worker,
        state,
        seconds,
        reason: reason.map(str::to_owned),
    };
    status.servers[0].missing_workers = vec![
        missing(1, Absence::Gone, 71.0, Some("nothing was heard for 15s")),
        missing(2, Absence::Suspected, 4.0, Some("the connection was closed")),
        missing(3, Absence::Suspected, 9.0, None),
    ];
    let shard = &mut status.servers[0].shards[0];
    shard.holds = vec![HoldStatus { worker: 0, reason: "stale".into(), datacenter: None, seconds: 3.5 }];
    shard.slowest_workers = vec![Straggler { worker: 2, clocks: 2, seconds: 3.5 }];
    let text = text(&History::once(fetched), 120);
    for said in [
        "worker 0 waits 3.50 s: worker 2 (-2)",
        "worker 1 is gone for 71.0 s; the others go on: nothing was heard for 15s",
        "worker 2 is not heard of for 4.00 s: the connection was closed",
        "worker 3 has not come for 9.00 s",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn who_is_back_is_not_waited_for_while_all_shards_of_it_are_behind() {
    for (but, expected) in [(Some(1), false), (None, true)] {
        let mut fetched = made_up::fetched(118);
        let servers = fetched.iter_mut().filter_map(|f| f.status.as_mut().ok()).flat_map(|s| &mut s.servers);
        for shard in servers.flat_map(|server| &mut server.shards).filter(|shard| Some(shard.shard) != but) {
            let mut mirrors = shard.mirrors.iter_mut();
            let ireland = mirrors.find(|mirror| mirror.datacenter == "ireland");
            ireland.into_iter().for_each(|mirror| mirror.presence = MirrorPresence::Behind);
        }
        let text = text(&History::once(fetched), 120);
        assert_eq!(text.contains("catching up: not waited for"), expected, "{text}");
    }
}

/// "1.12 MB sent", as the head of the page has it.
fn sent_by_all(history: &History) -> String {
    let text = text(history, 100);
    let head = text.lines().find(|line| line.starts_with("WAN ")).unwrap_or_default().to_owned();
    head.split(" sent").next().unwrap_or_default().to_owned()
}

#[test]
fn what_all_have_sent_does_not_become_less_when_one_of_them_dies() {
    let all = || made_up::fetched(118);
    let mut history = History::once(all());
    let before = sent_by_all(&history);
    let without = |role: &str| {
        let mut fetched = all();
        let dead = |f: &&mut Fetched| f.target.name == Some(("virginia".to_owned(), role.to_owned()));
        fetched.iter_mut().filter(dead).for_each(|dead| dead.status = gone(0, None).status);
        fetched
    };
    history.push(Duration::from_secs(1), without("server-0"));
    assert_eq!(sent_by_all(&history), before, "who watches remembers");
    // It is back with less than it had told.
    let mut back = all();
    for server in back.iter_mut().filter_map(|f| f.status.as_mut().ok()).flat_map(|s| &mut s.servers) {
        (server.wan_sent_bytes, server.wan_received_bytes) = (5, 5);
        server.links.iter_mut().for_each(|link| (link.sent_bytes, link.naive_bytes) = (5, 5));
    }
    history.push(Duration::from_secs(2), back);
    assert_eq!(sent_by_all(&history), before);

    // Who asks now for the first time hears of it from those to whom it sent.
    let totals = |fetched: &[Fetched]| {
        let totals = Totals::of(fetched.iter().filter_map(|fetched| fetched.status.as_ref().ok()));
        totals.sent_bytes("virginia") as f64
    };
    assert!(totals(&without("server-0")) > 0.9 * totals(&all()));
    let shown = text(&History::once(without("server-0")), 100);
    assert!(shown.contains("less than every update would take"), "{shown}");
}

#[test]
fn a_link_that_has_cost_more_than_it_saved_says_so() {
    let mut all = made_up::fetched(118);
    let links = all.iter_mut().filter_map(|fetched| fetched.status.as_mut().ok());
    for link in links.flat_map(|status| &mut status.servers).flat_map(|server| &mut server.links) {
        link.naive_bytes = link.sent_bytes / 4;
    }
    let shown = text(&History::once(all), 160);
    assert!(shown.contains(" 0.25x"), "{shown}");
}

#[test]
fn what_was_shown_last_stays_when_the_view_is_left() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let mut terminal = Terminal::new(TestBackend::new(100, 12)).expect("a buffer");
    let mut history = History::default();
    assert_eq!(left_behind(&history, 100), "", "nobody has been asked");
    runtime.expect("a runtime").block_on(async {
        let quit = stream::once(async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            Ok(Event::Key(KeyEvent::from(KeyCode::Char('q'))))
        });
        let source = || std::future::ready(made_up::fetched(118));
        let never = std::future::pending::<()>();
        let ended =
            show(&mut terminal, std::pin::pin!(quit), Palette::Plain, &mut history, source, never).await;
        assert_eq!(ended.expect("a buffer does not fail"), Ended::Quit);
    });
    // All of it, also what the screen had no room for.
    assert_eq!(left_behind(&history, 100), text(&history, 100));
    assert!(left_behind(&history, 100).contains("singapore"));
}
