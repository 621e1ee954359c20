//! What waits for the node's task: control in one lane, updates in another.
//!
//! Updates come in bulk, and applying one takes as long as its rows are many. What is said beside them, that a region has
//! completed a clock or that rows are to be held, is what readers wait for: it never waits behind them. So there are two
//! lanes, each with a bound of its own, and control is taken first.
//!
//! Between the lanes there is no order. None is needed: they may come over connections of their own, which have none either.
//! What has to come before all updates of a link, that it is up, is waited for by the link; what has to come after them,
//! that it is down, by the node's task.
//!
//! Kind: driver.

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;

use crate::driver::server::Event;

/// Events that may wait in each of the lanes; links slow down beyond.
pub const EVENT_QUEUE: usize = 256;

/// The lanes to a node's task.
pub fn event_queue() -> (EventSender, EventReceiver) {
    let (control, control_queue) = mpsc::channel(EVENT_QUEUE);
    let (updates, update_queue) = mpsc::channel(EVENT_QUEUE);
    let receiver = EventReceiver { control: control_queue, updates: update_queue };
    (EventSender { control, updates }, receiver)
}

/// Tells a node's task what happens.
#[derive(Clone, Debug)]
pub struct EventSender {
    control: mpsc::Sender<Event>,
    updates: mpsc::Sender<Event>,
}

impl EventSender {
    /// Sends an event; waits while its lane is full.
    ///
    /// # Errors
    ///
    /// With the event, if the task is gone.
    pub async fn send(&self, event: Event) -> Result<(), SendError<Event>> {
        self.lane(&event).send(event).await
    }

    /// The same outside of a runtime.
    ///
    /// # Errors
    ///
    /// With the event, if the task is gone.
    pub fn blocking_send(&self, event: Event) -> Result<(), SendError<Event>> {
        self.lane(&event).blocking_send(event)
    }

    /// Whether the task is gone.
    pub fn is_closed(&self) -> bool {
        self.control.is_closed()
    }

    fn lane(&self, event: &Event) -> &mpsc::Sender<Event> {
        match event {
            Event::Update { .. } => &self.updates,
            _ => &self.control,
        }
    }
}

/// Where a node's task hears of what happens.
#[derive(Debug)]
pub struct EventReceiver {
    control: mpsc::Receiver<Event>,
    updates: mpsc::Receiver<Event>,
}

impl EventReceiver {
    /// Waits for the next event, and takes an update only where nothing else has come; none once nobody can send any more.
    pub async fn recv(&mut self) -> Option<Event> {
        tokio::select! {
            biased;
            Some(event) = self.control.recv() => Some(event),
            Some(event) = self.updates.recv() => Some(event),
            else => None,
        }
    }

    /// What has come that is no update.
    pub fn try_control(&mut self) -> Option<Event> {
        self.control.try_recv().ok()
    }

    /// An update that has come.
    pub fn try_update(&mut self) -> Option<Event> {
        self.updates.try_recv().ok()
    }
}
