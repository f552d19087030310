//! The live view on a terminal: kept current in place on a screen of its own, so that the shell's stays as it was.

use std::io::{Stdout, Write as _};
use std::sync::Arc;
use std::time::Duration;

use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, queue};
use tokio_util::sync::CancellationToken;

use super::observe::Board;
use frame::{Line, Tone};

mod frame;

/// Longest time between two drawings: times on the screen tick.
const TICK: Duration = Duration::from_millis(500);
/// Least time between two drawings. Too low: the terminal flickers and the CPU is busy.
const DRAW_MIN: Duration = Duration::from_millis(80);
/// Size where the terminal does not tell.
const SIZE_DEFAULT: (u16, u16) = (100, 40);

/// Shows the board until `stop`.
pub(crate) async fn run(board: Arc<Board>, intro: Vec<String>, clusters: Vec<String>, stop: CancellationToken) {
    let mut screen = Screen::open();
    let mut changes = board.subscribe();
    loop {
        let size = crossterm::terminal::size().unwrap_or(SIZE_DEFAULT);
        let (recent, _) = board.since(0);
        let now = lattice_protocol::clock::now();
        let lines = frame::draw(&intro, &board.clusters(), &clusters, &recent, size, now);
        screen.show(&lines, size);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(DRAW_MIN) => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// The terminal; it is given back as it was when this is dropped.
struct Screen {
    out: Stdout,
    size: (u16, u16),
}

impl Screen {
    fn open() -> Self {
        let mut out = std::io::stdout();
        // A terminal that cannot do it shows lines instead.
        let _ = queue!(out, EnterAlternateScreen, cursor::Hide, Clear(ClearType::All));
        let _ = out.flush();
        Self { out, size: (0, 0) }
    }

    fn show(&mut self, lines: &[Line], size: (u16, u16)) {
        if size != self.size {
            self.size = size;
            let _ = queue!(self.out, Clear(ClearType::All));
        }
        for (row, line) in lines.iter().enumerate() {
            let Ok(row) = u16::try_from(row) else { break };
            let _ = queue!(self.out, cursor::MoveTo(0, row));
            for (tone, text) in &line.0 {
                let _ = match tone {
                    Tone::Plain => queue!(self.out, Print(text)),
                    Tone::Strong => {
                        queue!(self.out, SetAttribute(Attribute::Bold), Print(text), SetAttribute(Attribute::Reset))
                    }
                    Tone::Faint => queue!(self.out, SetForegroundColor(Color::DarkGrey), Print(text), ResetColor),
                    Tone::Good => queue!(self.out, SetForegroundColor(Color::Green), Print(text), ResetColor),
                    Tone::Busy => queue!(self.out, SetForegroundColor(Color::Yellow), Print(text), ResetColor),
                    Tone::Bad => queue!(self.out, SetForegroundColor(Color::Red), Print(text), ResetColor),
                };
            }
            let _ = queue!(self.out, Clear(ClearType::UntilNewLine));
        }
        let rows = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        let _ = queue!(self.out, cursor::MoveTo(0, rows), Clear(ClearType::FromCursorDown));
        let _ = self.out.flush();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = queue!(self.out, ResetColor, cursor::Show, LeaveAlternateScreen);
        let _ = self.out.flush();
    }
}
