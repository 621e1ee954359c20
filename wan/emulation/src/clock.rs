//! Virtual time for the real QUIC stack, exact to the nanosecond.
//!
//! Kind: driver.
//!
//! Tokio's paused clock jumps to the next timer when nothing can run, but in steps of a millisecond. On a
//! link, a millisecond is a dozen packets: rounded arrivals merge acknowledgements and hide queues. So
//! arrivals and quinn's timers live in a schedule of our own. Tokio calls its `on_thread_park` hook exactly
//! when no task can run; the hook moves the paused clock on to the next entry by an `advance` of less than a
//! millisecond, and wakes who waits for it. Tokio's own timers still work on the same clock, at their usual
//! millisecond, and the two never overtake each other.
//!
//! quinn's timers are rounded up to a millisecond, since that is what quinn gets from tokio in production;
//! arrivals and [`VirtualClock::sleep`] are exact.

use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::schedule::{self, Schedule};

/// The step of tokio's timer wheel.
const TICK_NANOS: u64 = 1_000_000;

/// The virtual clock of one simulation, and the runtime that it drives.
///
/// Cheap to clone. One clock serves one runtime: see [`run`](Self::run).
#[derive(Clone)]
pub struct VirtualClock {
    inner: Arc<Inner>,
}

/// The simulation was not over at its virtual deadline.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not finished after {limit:?} of virtual time")]
pub struct OutOfTime {
    /// The deadline, from the start.
    pub limit: Duration,
}

struct Inner {
    /// Tokio's time at the start of the run.
    start: OnceLock<tokio::time::Instant>,
    schedule: Mutex<Schedule>,
    /// Wakes a task that does nothing, see [`Pulse`].
    pulse: OnceLock<Waker>,
}

/// A task that does nothing. Waking it from the park hook keeps tokio from parking, whatever else was woken: a timer's
/// waker may belong to a task that has ended, and a runtime that has neither work nor a timer of its own parks for ever.
struct Pulse(VirtualClock);

impl Future for Pulse {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.inner.pulse.get_or_init(|| context.waker().clone());
        Poll::Pending
    }
}

impl VirtualClock {
    /// A clock that stands at zero.
    #[expect(
        clippy::new_without_default,
        reason = "a default clock would hide that each simulation needs its own"
    )]
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                start: OnceLock::new(),
                schedule: Mutex::default(),
                pulse: OnceLock::new(),
            }),
        }
    }

    /// Runs a simulation to its end, or until `limit` of virtual time.
    ///
    /// The limit is more than a convenience: when every timer is gone and nothing can run, a paused runtime
    /// parks for ever, and the limit is a timer that is never gone. A task that spins without waiting is not
    /// caught; virtual time does not pass for it.
    ///
    /// # Errors
    ///
    /// [`OutOfTime`] at the limit; the simulation's tasks are dropped.
    ///
    /// # Panics
    ///
    /// If this clock has run before.
    pub fn run<F: Future>(&self, limit: Duration, simulation: F) -> Result<F::Output, OutOfTime> {
        let runtime = self.runtime();
        runtime.block_on(async {
            self.start();
            let mut simulation = pin!(simulation);
            let mut deadline = pin!(self.sleep_until(limit));
            // The simulation is asked first, so that ending exactly at the limit is in time.
            std::future::poll_fn(|context| match simulation.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending => deadline.as_mut().poll(context).map(|()| Err(OutOfTime { limit })),
            })
            .await
        })
    }

    /// The runtime whose clock this is. Most callers want [`run`](Self::run), which also sets a deadline.
    ///
    /// # Panics
    ///
    /// If the operating system gives no resources for a runtime.
    pub fn runtime(&self) -> tokio::runtime::Runtime {
        let clock = self.clone();
        tokio::runtime::Builder::new_current_thread()
            // Time alone: an I/O driver would let the outside world in, to which paused time looks idle.
            .enable_time()
            .start_paused(true)
            .on_thread_park(move || clock.on_park())
            .build()
            .expect("a runtime without I/O needs nothing that can be refused")
    }

    /// Takes this instant for zero. The first thing to do inside `block_on` of [`runtime`](Self::runtime).
    ///
    /// # Panics
    ///
    /// If the clock was started before, or outside of a runtime.
    pub fn start(&self) {
        let first = self.inner.start.set(tokio::time::Instant::now()).is_ok();
        assert!(first, "a virtual clock serves one run");
        tokio::spawn(Pulse(self.clone()));
    }

    /// Virtual time since the start; zero before it.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now_nanos())
    }

    /// Sleeps for exactly `length`; `tokio::time::sleep` rounds up to its next millisecond.
    pub async fn sleep(&self, length: Duration) {
        self.sleep_until(self.now().saturating_add(length)).await;
    }

    /// Sleeps until exactly `deadline`, from the start of the run.
    pub async fn sleep_until(&self, deadline: Duration) {
        let mut timer = self.timer(deadline);
        std::future::poll_fn(|context| timer.poll(context)).await;
    }

    /// A timer that expires at exactly `deadline`, from the start of the run.
    pub fn timer(&self, deadline: Duration) -> ExactTimer {
        let id = self.schedule().add_timer(nanos(deadline));
        ExactTimer { clock: self.clone(), id }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.inner.schedule.lock().expect("no one panics while holding the schedule")
    }

    fn base(&self) -> tokio::time::Instant {
        *self.inner.start.get().expect("the clock is started before it is read")
    }

    fn now_nanos(&self) -> u64 {
        self.inner.start.get().map_or(0, |&start| nanos(tokio::time::Instant::now() - start))
    }

    /// Tokio's hook: nothing can run, so time may pass.
    ///
    /// Waking a task from here cancels the park (checked on tokio 1.54; `tests/virtual_time.rs` guards
    /// upgrades), after which tokio's own timers that are due fire.
    fn on_park(&self) {
        if self.inner.start.get().is_none() {
            return;
        }
        loop {
            let now = self.now_nanos();
            let into_tick = now % TICK_NANOS;
            let next = self.schedule().next();
            match next {
                Some(next) if next <= now => {
                    let due = self.schedule().take_due(now);
                    if !due.is_empty() {
                        due.into_iter().for_each(Waker::wake);
                        return self.beat();
                    }
                    // Only timers that had been moved back: look again.
                }
                // No tokio timer can be due inside its tick, so the clock may go straight there.
                Some(next) if next < now - into_tick + TICK_NANOS => advance(next - now),
                // Tokio's own jump adds whole ticks: bring the clock back to the grid before handing over.
                _ if into_tick != 0 => {
                    advance(TICK_NANOS - into_tick);
                    return self.beat();
                }
                // Tokio jumps to its next timer, but not past the tick that our next entry lies in.
                Some(next) => {
                    let tick = self.base() + Duration::from_nanos(next - next % TICK_NANOS);
                    self.schedule().guard_tick(tick);
                    return;
                }
                None => return,
            }
        }
    }

    /// Makes tokio look at its tasks and timers once more before time passes.
    fn beat(&self) {
        if let Some(pulse) = self.inner.pulse.get() {
            pulse.wake_by_ref();
        }
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VirtualClock")
    }
}

/// quinn's view of the clock.
impl quinn::Runtime for VirtualClock {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn quinn::AsyncTimer>> {
        Box::pin(QuinnTimer(self.timer(self.rounded(at))))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(future);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "there are no real sockets in virtual time"))
    }

    fn now(&self) -> Instant {
        self.base().into_std() + VirtualClock::now(self)
    }
}

impl VirtualClock {
    /// When a timer of quinn's fires in production: at the next tick.
    fn rounded(&self, at: Instant) -> Duration {
        let exact = nanos(at.saturating_duration_since(self.base().into_std()));
        Duration::from_nanos(exact.div_ceil(TICK_NANOS).saturating_mul(TICK_NANOS))
    }
}

#[derive(Debug)]
struct QuinnTimer(ExactTimer);

impl quinn::AsyncTimer for QuinnTimer {
    fn reset(self: Pin<&mut Self>, at: Instant) {
        self.0.reset(self.0.clock.rounded(at));
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll(context)
    }
}

/// A timer that expires at an exact virtual time, and can be set again.
#[derive(Debug)]
pub struct ExactTimer {
    clock: VirtualClock,
    id: usize,
}

impl ExactTimer {
    /// Moves the deadline; whoever polled last is woken at the new one.
    pub fn reset(&self, deadline: Duration) {
        self.clock.schedule().reset(self.id, nanos(deadline));
    }

    /// Ready once the deadline has passed; otherwise wakes the caller then.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = self.clock.now_nanos();
        self.clock.schedule().poll(self.id, now, context.waker())
    }
}

impl Drop for ExactTimer {
    fn drop(&mut self) {
        self.clock.schedule().remove_timer(self.id);
    }
}

/// Moves tokio's paused clock on; `advance` does so when it is first polled.
fn advance(nanos: u64) {
    let mut advance = pin!(tokio::time::advance(Duration::from_nanos(nanos)));
    let _ = advance.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(schedule::NEVER)
}
