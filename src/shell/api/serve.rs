//! The thread that serves the control socket. Each connection is one request; everything has a
//! maximum and a deadline, and nothing that happens here ends the supervisor.

use super::answer::{self, Body};
use super::follow::{Follow, Pulse};
use super::request::{self, Wish};
use super::{Answer, Ask, EVENTS_MAX, Limits, Line};
use crate::base::time::Instant;
use crate::sys::{clock, identity};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::Error;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

/// Of a request's head, and of what is kept of an answer that is not taken.
const BUFFER_SIZE: usize = 16 * 1024;
/// Before something that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two warnings of one kind.
const QUIET: Duration = Duration::from_mins(1);

/// Serves until `ended` says so, or its sender is gone.
pub(super) fn run(
    listener: &UnixListener,
    line: &Line,
    limits: Limits,
    mut ended: oneshot::Receiver<()>,
) {
    loop {
        let once = AssertUnwindSafe(|| serve(listener, line, limits, &mut ended));
        match catch_unwind(once) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!("control: serving: {error}. It is tried again"),
            Err(_) => tracing::error!("control: its thread panicked and goes on. Please report it"),
        }
        std::thread::sleep(PAUSE);
    }
}

fn serve(
    listener: &UnixListener,
    line: &Line,
    limits: Limits,
    ended: &mut oneshot::Receiver<()>,
) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let listener = listener.try_clone()?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let mut accepting = tokio::spawn(accept(listener, line.clone(), limits));
        poll_fn(|context| {
            if Pin::new(&mut *ended).poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            // It ends only by a panic, which the runtime has caught.
            Pin::new(&mut accepting).poll(context).map(|ended| ended.map_err(Error::other))
        })
        .await
    })
}

async fn accept(listener: tokio::net::UnixListener, line: Line, limits: Limits) {
    let connections = Arc::new(Semaphore::new(limits.connections));
    let followers = Arc::new(Semaphore::new(limits.followers));
    let (mut failed, mut stranger) = (Quiet::default(), Quiet::default());
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&connections).acquire_owned().await else { return };
        let (stream, uid) = match listener.accept().await.and_then(|(stream, _)| {
            let uid = stream.peer_cred()?.uid();
            Ok((stream, uid))
        }) {
            Ok(accepted) => accepted,
            Err(error) => {
                failed.warn(|| format!("control: accepting: {error}"));
                sleep(PAUSE).await;
                continue;
            }
        };
        if !may_ask(uid, identity::own_uid()) {
            stranger.warn(|| format!("control: user {uid} was turned away: not root, not ours"));
            continue;
        }
        let conversation = Conversation {
            line: line.clone(),
            limits,
            followers: Arc::clone(&followers),
            pulse: Pulse::default(),
        };
        tokio::spawn(async move {
            conversation.hold(stream).await;
            drop(place);
        });
    }
}

fn may_ask(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

/// Says the same not more than once a minute.
#[derive(Default)]
struct Quiet {
    until: Option<Instant>,
    unsaid: u64,
}

impl Quiet {
    fn warn(&mut self, text: impl Fn() -> String) {
        let now = clock::now();
        if self.until.is_some_and(|until| now < until) {
            self.unsaid += 1;
            return;
        }
        match self.unsaid {
            0 => tracing::warn!("{}", text()),
            unsaid => tracing::warn!("{} (and {unsaid} more of this kind)", text()),
        }
        *self = Self { until: Some(now + QUIET), unsaid: 0 };
    }
}

/// One connection.
#[derive(Clone)]
struct Conversation {
    line: Line,
    limits: Limits,
    followers: Arc<Semaphore>,
    pulse: Pulse,
}

impl Conversation {
    async fn hold(self, stream: UnixStream) {
        let (pulse, limits) = (self.pulse.clone(), self.limits);
        let service = service_fn(move |request| self.clone().respond(request));
        let connection = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(BUFFER_SIZE)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        if timeout(limits.exchange, connection.as_mut()).await.is_ok() {
            return;
        }
        // Only a follower may stay, and only while it takes what it is sent.
        while pulse.has_beaten() {
            if timeout(limits.stall, connection.as_mut()).await.is_ok() {
                return;
            }
        }
    }

    async fn respond(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        if !request.body().is_end_stream() {
            let why = "no request has a body here; send none";
            return Ok(answer::problem(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let response = match request::read(request.method().as_str(), target) {
            Err(refusal) => answer::refuse(&refusal),
            Ok(Wish::One(ask)) => {
                let answered = answer::of(&self.line, self.limits.answer, ask).await;
                answered.map_or_else(|response| response, answer::show)
            }
            Ok(Wish::Follow { after }) => {
                self.follow(after).await.unwrap_or_else(|response| response)
            }
        };
        Ok(response)
    }

    async fn follow(self, after: Option<u64>) -> Result<Response<Body>, Response<Body>> {
        let place = self.followers.try_acquire_owned().map_err(|_| {
            let why = format!("{} already follow events. End one of them", self.limits.followers);
            answer::problem(StatusCode::SERVICE_UNAVAILABLE, &why)
        })?;
        // Followed first and looked back after, so that nothing falls between.
        let events = match answer::of(&self.line, self.limits.answer, Ask::Follow).await? {
            Answer::Follow(events) => events,
            other => return Err(answer::show(other)),
        };
        let past = match after {
            None => Vec::new(),
            Some(after) => {
                let ask = Ask::Events { after, limit: EVENTS_MAX };
                match answer::of(&self.line, self.limits.answer, ask).await? {
                    Answer::Events(past) => past,
                    other => return Err(answer::show(other)),
                }
            }
        };
        Ok(answer::follow(Follow::new(&past, events, self.pulse, place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_owner_may_ask() {
        assert!(may_ask(0, 1000) && may_ask(1000, 1000) && may_ask(0, 0));
        assert!(!may_ask(1001, 1000) && !may_ask(1000, 0) && !may_ask(65534, 1000));
    }

    #[test]
    fn the_same_is_said_once_a_minute() {
        let mut quiet = Quiet::default();
        for _ in 0..5 {
            quiet.warn(|| "again".to_owned());
        }
        assert_eq!(quiet.unsaid, 4);
    }
}
