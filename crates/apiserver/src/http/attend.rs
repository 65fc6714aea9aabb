//! Requests that their connection's own task answers.
//!
//! HTTP/2 gives every request a task. Most connections are asked one thing at a time, and that would cross the
//! scheduler twice, to its task and back to the connection's, on either side of the work. Here the connection's task
//! answers such a request itself; those that come while it is at one get tasks of their own.
//!
//! Of the two futures that the task then has, only the one that was woken is polled.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;
use hyper::rt::Executor;
use parking_lot::Mutex;

/// After so many turns of both futures others have theirs: what must yield wakes itself.
const TURNS: usize = 16;

type Request = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The place for the request that the connection's task answers.
enum Seat {
    Free,
    Taken(Request),
    /// The request is being polled.
    Busy,
}

/// The connection's task.
#[derive(Default)]
struct Task {
    waker: AtomicWaker,
    /// It is about to look at both bells anyway.
    polling: AtomicBool,
}

/// Wakes one of the task's two futures.
struct Bell {
    rung: AtomicBool,
    task: Arc<Task>,
}

impl Bell {
    fn new(task: &Arc<Task>) -> Arc<Self> {
        Arc::new(Self { rung: AtomicBool::new(false), task: Arc::clone(task) })
    }

    fn is_rung(&self) -> bool {
        self.rung.load(SeqCst)
    }

    fn answer(&self) -> bool {
        self.rung.swap(false, SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, SeqCst);
        // The task looks at the bells once more after it has said that it is through, so that one of both sees the other.
        if !self.task.polling.load(SeqCst) {
            self.task.waker.wake();
        }
    }
}

struct Desk {
    seat: Mutex<Seat>,
    bell: Arc<Bell>,
}

impl Desk {
    /// Polls the request, if there is one.
    fn poll(&self, cx: &mut Context<'_>) {
        let mut seat = self.seat.lock();
        let mut request = match std::mem::replace(&mut *seat, Seat::Busy) {
            Seat::Taken(request) => request,
            other => return *seat = other,
        };
        drop(seat);
        let pending = request.as_mut().poll(cx).is_pending();
        // One that has ended goes first: with it goes all that it holds.
        let left = pending.then_some(request).map_or(Seat::Free, Seat::Taken);
        *self.seat.lock() = left;
    }
}

/// Answers what comes over one connection.
pub(super) struct Attendant {
    desk: Arc<Desk>,
    line: Arc<Bell>,
    request_waker: Waker,
    line_waker: Waker,
}

/// Where the connection brings its requests; those that nobody attends to get tasks of their own.
#[derive(Clone)]
pub(super) struct Bring(Weak<Desk>);

impl<F> Executor<F> for Bring
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, request: F) {
        if let Some(desk) = self.0.upgrade() {
            let mut seat = desk.seat.lock();
            if matches!(*seat, Seat::Free) {
                *seat = Seat::Taken(Box::pin(request));
                drop(seat);
                desk.bell.wake_by_ref();
                return;
            }
        }
        tokio::spawn(request);
    }
}

impl Attendant {
    pub(super) fn new() -> Self {
        let task = Arc::default();
        let (request, line) = (Bell::new(&task), Bell::new(&task));
        let (request_waker, line_waker) = (Waker::from(Arc::clone(&request)), Waker::from(Arc::clone(&line)));
        let desk = Arc::new(Desk { seat: Mutex::new(Seat::Free), bell: request });
        Self { desk, line, request_waker, line_waker }
    }

    /// What the connection is to be made with.
    pub(super) fn desk(&self) -> Bring {
        Bring(Arc::downgrade(&self.desk))
    }

    /// Runs the connection and answers the request that it has brought.
    pub(super) async fn run<C: Future>(&self, mut connection: Pin<&mut C>) -> C::Output {
        self.line.rung.store(true, SeqCst);
        std::future::poll_fn(|cx| self.poll(connection.as_mut(), cx)).await
    }

    fn poll<C: Future>(&self, mut connection: Pin<&mut C>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let (request, line, task) = (&self.desk.bell, &self.line, &self.line.task);
        task.waker.register(cx.waker());
        task.polling.store(true, SeqCst);
        for _ in 0..TURNS {
            if request.answer() {
                self.desk.poll(&mut Context::from_waker(&self.request_waker));
            }
            if line.answer()
                && let Poll::Ready(done) =
                    connection.as_mut().poll(&mut Context::from_waker(&self.line_waker))
            {
                task.polling.store(false, SeqCst);
                return Poll::Ready(done);
            }
            if request.is_rung() || line.is_rung() {
                continue;
            }
            task.polling.store(false, SeqCst);
            if !request.is_rung() && !line.is_rung() {
                return Poll::Pending;
            }
            task.polling.store(true, SeqCst);
        }
        task.polling.store(false, SeqCst);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
#[path = "attend_tests.rs"]
mod tests;
