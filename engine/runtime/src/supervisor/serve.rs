//! The poll loop over a running container: its end, its output, its clients, its execs.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

use super::child::Started;
use super::cleanup::Cleanup;
use super::exec::{Exec, Progress, Target};
use super::probe::Prober;
use super::relay::{self, Relay};
use super::resolver::{self, Resolver};
use super::{Host, exit_reply, reap};
use crate::cgroup::Cgroup;
use crate::error::{Context, SetupError, Step};
use crate::protocol::{self, Connection, Reply, Request};
use crate::restart::Restarts;
use crate::spec::{Resources, Spec};
use crate::state::{State, StateError};

/// The most clients at once; further ones wait in the socket's backlog.
const CLIENTS_MAX: usize = 256;
/// How long the kernel may take to kill the other processes of a PID namespace whose first one has ended.
const NAMESPACE_END: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// The launcher's place among the clients.
const LAUNCHER: u64 = 0;

pub(super) struct Server<'a> {
    pub(super) spec: &'a Spec,
    pub(super) host: Host,
    pub(super) listener: Option<OwnedFd>,
    pub(super) cleanup: Option<Cleanup<'a>>,
    /// The first process's, while it lives.
    pub(super) cgroup: Option<Cgroup>,
    /// The first process; none while it waits to be restarted.
    pub(super) init: Option<OwnedFd>,
    /// When it was started.
    pub(super) born: Instant,
    pub(super) relay: Option<Relay>,
    pub(super) prober: Option<Prober>,
    pub(super) resolver: Option<Resolver>,
    /// The network namespace of all its lives.
    pub(super) network: Option<OwnedFd>,
    held: Option<OwnedFd>,
    pub(super) kept: Vec<OwnedFd>,
    pub(super) restarts: Restarts,
    /// What this life and those to come may use.
    pub(super) resources: Resources,
    /// When it is to be restarted.
    pub(super) due: Option<Instant>,
    /// Somebody wants it to end for good.
    pub(super) stopped: bool,
    /// Those who follow have been told of the last end.
    pub(super) end_told: bool,
    pub(super) state: State,
    /// Whether the state could be written.
    pub(super) stored: Result<(), StateError>,
    pub(super) clients: BTreeMap<u64, Client>,
    pub(super) execs: BTreeMap<u64, Exec>,
    /// The last number given to a client or an exec.
    pub(super) last: u64,
}

/// What a first process that runs has.
pub(super) struct Life {
    pub(super) cgroup: Cgroup,
    pub(super) started: Started,
    pub(super) relay: Option<Relay>,
}

pub(super) struct Client {
    pub(super) connection: Connection,
    /// Wants to know of the first process's end.
    pub(super) waits: bool,
    /// Wants to know of its health.
    pub(super) watches: bool,
    /// Wants to know of all that.
    pub(super) follows: bool,
    /// The exec that it started.
    exec: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Token {
    Init,
    Listener,
    Client(u64),
    Relay(relay::Ready),
    Resolver(resolver::Ready),
    ProbeOutput,
    ExecStarting(u64),
    ExecEnded(u64),
    ExecRelay(u64, relay::Ready),
}

impl<'a> Server<'a> {
    pub(super) fn new(
        spec: &'a Spec,
        host: Host,
        listener: OwnedFd,
        cleanup: Cleanup<'a>,
        mut life: Life,
        launcher: Connection,
        running: State,
    ) -> Self {
        let launcher =
            Client { connection: launcher, waits: true, watches: false, follows: false, exec: None };
        let started = &mut life.started;
        let (resolver, held, kept) =
            (started.resolver.take(), started.held.take(), std::mem::take(&mut started.kept));
        let network = started.network.take();
        let mut server = Self {
            spec,
            host,
            listener: Some(listener),
            cleanup: Some(cleanup),
            cgroup: None,
            init: None,
            born: Instant::now(),
            relay: None,
            prober: None,
            resolver,
            network,
            held,
            kept,
            restarts: Restarts::new(spec.restart),
            resources: spec.resources.clone(),
            due: None,
            stopped: false,
            end_told: false,
            state: running,
            stored: Ok(()),
            clients: BTreeMap::from([(LAUNCHER, launcher)]),
            execs: BTreeMap::new(),
            last: LAUNCHER,
        };
        server.live(life);
        server
    }

    /// Takes over a first process that has just been started.
    pub(super) fn live(&mut self, life: Life) {
        self.born = Instant::now();
        self.cgroup = Some(life.cgroup);
        self.init = Some(life.started.pidfd);
        self.relay = life.relay;
        self.begin_probes();
    }

    /// Serves until the first process has ended for good, then tells everyone and cleans up.
    pub(super) fn run(mut self) -> Result<(), SetupError> {
        while self.init.is_some() || self.due.is_some() {
            let ready = self.wait()?;
            if let Some(resolver) = &mut self.resolver {
                resolver.expire(Instant::now());
            }
            self.handle(ready)?;
            self.look_after_probes(Instant::now());
            if self.due.is_some() && self.stopped {
                self.stay_down();
            }
            if self.due.is_some_and(|due| due <= Instant::now()) {
                // The state says why it failed.
                let _ = self.revive();
            }
        }
        self.close()
    }

    fn handle(&mut self, ready: Vec<Token>) -> Result<(), SetupError> {
        for token in ready {
            match token {
                Token::Init => self.end_life()?,
                Token::Listener => self.accept(),
                Token::Client(number) => self.hear(number),
                Token::Relay(ready) => {
                    if let Some(relay) = &mut self.relay {
                        relay.handle(ready);
                    }
                }
                Token::Resolver(ready) => {
                    if let Some(resolver) = &mut self.resolver {
                        resolver.handle(ready);
                    }
                }
                Token::ProbeOutput => self.take_probe_output(),
                Token::ExecStarting(number) => self.exec_progress(number),
                Token::ExecEnded(number) => self.exec_ended(number),
                Token::ExecRelay(number, ready) => {
                    if let Some(relay) = self.execs.get_mut(&number).and_then(|exec| exec.relay.as_mut()) {
                        relay.handle(ready);
                    }
                }
            }
        }
        Ok(())
    }

    /// Blocks until something is ready.
    fn wait(&self) -> Result<Vec<Token>, SetupError> {
        let interests = self.interests();
        let mut poll: Vec<PollFd<'_>> =
            interests.iter().map(|(fd, flags, _)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let resolver = self.resolver.as_ref().and_then(Resolver::deadline);
        let deadline = [resolver, self.due, self.probe_deadline()].into_iter().flatten().min();
        let limit = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let limit =
            limit.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, limit.as_ref())).step(Step::Control)?;
        let ready = poll.iter().zip(&interests).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(ready.map(|(_, (_, _, token))| *token).collect())
    }

    fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags, Token)> {
        let mut out = Vec::new();
        out.extend(self.init.iter().map(|init| (init.as_fd(), PollFlags::IN, Token::Init)));
        let listener = self.listener.iter().filter(|_| self.clients.len() < CLIENTS_MAX);
        out.extend(listener.map(|listener| (listener.as_fd(), PollFlags::IN, Token::Listener)));
        out.extend(
            self.clients.iter().map(|(&n, c)| (c.connection.as_fd(), PollFlags::IN, Token::Client(n))),
        );
        let relay = self.relay.iter().flat_map(Relay::interests);
        out.extend(relay.map(|(fd, flags, ready)| (fd, flags, Token::Relay(ready))));
        let resolver = self.resolver.iter().flat_map(Resolver::interests);
        out.extend(resolver.map(|(fd, flags, ready)| (fd, flags, Token::Resolver(ready))));
        if let Some(Prober::Running(probe)) = &self.prober {
            let output = probe.output.iter();
            out.extend(output.map(|output| (output.as_fd(), PollFlags::IN, Token::ProbeOutput)));
        }
        for (&number, exec) in &self.execs {
            match &exec.starting {
                Some(starting) => out.push((starting.as_fd(), PollFlags::IN, Token::ExecStarting(number))),
                None => out.push((exec.pidfd.as_fd(), PollFlags::IN, Token::ExecEnded(number))),
            }
            let relay = exec.relay.iter().flat_map(Relay::interests);
            out.extend(relay.map(|(fd, flags, ready)| (fd, flags, Token::ExecRelay(number, ready))));
        }
        out
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        let accepted = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC);
        // A client that gave up in between is no error.
        if let Ok(socket) = accepted {
            let connection = Connection::new(socket);
            let client = Client { connection, waits: false, watches: false, follows: false, exec: None };
            self.last += 1;
            self.clients.insert(self.last, client);
        }
    }

    /// Takes one request. A client that closed its end, or sent what cannot be read, is dropped.
    fn hear(&mut self, number: u64) {
        let Some(client) = self.clients.get(&number) else { return };
        match client.connection.receive::<Request>() {
            Ok(Some((request, descriptors))) => {
                if let Some(reply) = self.answer(number, request, descriptors) {
                    self.reply(number, &reply);
                }
            }
            Ok(None) | Err(_) => {
                self.clients.remove(&number);
                if number == LAUNCHER && self.spec.tether {
                    self.stopped = true;
                    let _ = self.signal_init(Signal::KILL.as_raw()); // the poll loop sees the end either way
                }
            }
        }
    }

    /// Does what is asked; the reply, if it is due now.
    fn answer(&mut self, number: u64, request: Request, mut descriptors: Vec<OwnedFd>) -> Option<Reply> {
        let exec = self.clients.get(&number)?.exec;
        // The first process's launcher and an exec's owner read nothing but the end.
        let quiet = exec.is_some() || number == LAUNCHER;
        let result = match request {
            Request::Signal { number: signal, last } => match exec {
                // An exec that has ended needs no signal.
                Some(exec) => self.execs.get(&exec).map_or(Ok(()), |exec| exec.signal(signal)),
                None => {
                    self.stopped |= last;
                    // Between two lives there is nobody to signal: it stays down, or there is nothing to do.
                    if self.init.is_none() && !last {
                        return (!quiet).then_some(Reply::NotRunning);
                    }
                    self.signal_init(signal)
                }
            },
            Request::Resize { rows, columns } => {
                let relay = match exec {
                    Some(exec) => self.execs.get(&exec).and_then(|exec| exec.relay.as_ref()),
                    None => self.relay.as_ref(),
                };
                relay.map_or(Ok(()), |relay| relay.resize(rows, columns))
            }
            Request::Attach { output, input } => match (&mut self.relay, descriptors.pop()) {
                (Some(relay), Some(socket)) => relay.attach(socket, output, input),
                (None, _) if self.due.is_some() => {
                    return Some(refused("the container is restarting, wait until it is running"));
                }
                _ => return Some(refused("its standard streams were given to whoever started it")),
            },
            Request::Wait => {
                self.clients.get_mut(&number)?.waits = true;
                return None;
            }
            Request::Watch if !quiet => {
                let Some(health) = &self.state.health else {
                    return Some(refused("the container has no health check"));
                };
                let status = health.status;
                let client = self.clients.get_mut(&number)?;
                (client.waits, client.watches) = (true, true);
                return Some(Reply::Health { status });
            }
            Request::Follow if !quiet => {
                self.clients.get_mut(&number)?.follows = true;
                // Between two lives the end of the last is news, too.
                return self.due.map(|_| self.last_exit());
            }
            Request::Held if !quiet => {
                let held = self.held.as_ref().map(AsFd::as_fd);
                if self.clients.get(&number)?.connection.send(&Reply::Held, held.as_slice()).is_err() {
                    self.clients.remove(&number);
                }
                return None;
            }
            Request::Pause if !quiet => self.pause(),
            Request::Unpause if !quiet => self.unpause(),
            Request::Update if !quiet => match descriptors.pop().map(protocol::read_body) {
                Some(Ok(body)) => self.update(body),
                Some(Err(e)) => Err(e),
                None => return Some(refused("no limits were passed")),
            },
            Request::Namespaces if !quiet => {
                self.send_namespaces(number);
                return None;
            }
            Request::Resolve if !quiet => self.resolve(descriptors),
            Request::Exec if !quiet => return self.exec(number, descriptors),
            Request::Exec
            | Request::Held
            | Request::Namespaces
            | Request::Resolve
            | Request::Watch
            | Request::Follow
            | Request::Pause
            | Request::Unpause
            | Request::Update
            | Request::Launch { .. }
            | Request::Proceed { .. } => {
                return Some(refused("this connection is for something else"));
            }
        };
        if quiet {
            return None;
        }
        Some(result.map_or_else(|e| Reply::Refused { reason: e.to_string() }, |()| Reply::Ok))
    }

    fn exec(&mut self, number: u64, mut descriptors: Vec<OwnedFd>) -> Option<Reply> {
        if descriptors.is_empty() {
            return Some(refused("no process was passed"));
        }
        let body = match protocol::read_body(descriptors.remove(0)) {
            Ok(body) => body,
            Err(e) => return Some(refused(&e.to_string())),
        };
        let (Some(init), Some(cgroup)) = (&self.init, &self.cgroup) else { return Some(Reply::NotRunning) };
        let target = Target { spec: self.spec, cgroup, filters: &self.host.filters, init };
        match Exec::spawn(&target, number, number, &body, descriptors) {
            Ok(exec) => {
                self.execs.insert(number, exec);
                self.clients.get_mut(&number)?.exec = Some(number);
                None
            }
            Err(error) => Some(self.not_started(error)),
        }
    }

    /// Why an exec did not start. What the kernel says of joining a container that has ended is nobody's business.
    fn not_started(&self, error: SetupError) -> Reply {
        const SRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();
        const NOMEM: i32 = rustix::io::Errno::NOMEM.raw_os_error();
        let limit = match error {
            // A process lets go of its namespaces a moment before its end can be waited for.
            SetupError::Step { step: Step::JoinNamespaces, errno: SRCH, .. } => return Reply::NotRunning,
            // A PID namespace that is being taken down has no memory for a process (pid_namespaces(7)).
            SetupError::Step { step: Step::Fork, errno: NOMEM, .. } => NAMESPACE_END,
            _ => Timespec::default(),
        };
        let Some(init) = &self.init else { return Reply::NotRunning };
        let mut poll = [PollFd::new(init, PollFlags::IN)];
        match rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, Some(&limit))) {
            Ok(1) => Reply::NotRunning,
            _ => Reply::Failed(error),
        }
    }

    fn exec_progress(&mut self, number: u64) {
        let Some(exec) = self.execs.get_mut(&number) else { return };
        let client = exec.client;
        match exec.hear() {
            Progress::Pending => {}
            Progress::Started => {
                let reply = Reply::Started { pid: exec.pid, warnings: Vec::new() };
                self.reply(client, &reply);
            }
            Progress::Failed(error) => {
                let _ = reap(&exec.pidfd); // it exits right after having failed
                self.execs.remove(&number);
                if let Some(client) = self.clients.get_mut(&client) {
                    client.exec = None;
                }
                self.probe_ended(number, Err(&error));
                let reply = self.not_started(error);
                self.reply(client, &reply);
            }
        }
    }

    pub(super) fn exec_ended(&mut self, number: u64) {
        let Some(exec) = self.execs.remove(&number) else { return };
        let code = reap(&exec.pidfd).unwrap_or(255);
        self.probe_ended(number, Ok(code));
        if let Some(relay) = exec.relay {
            relay.finish();
        }
        let oom_killed = self.oom_kills() > exec.oom_kills_before;
        self.reply(exec.client, &exit_reply(code, oom_killed));
    }

    pub(super) fn oom_kills(&self) -> u64 {
        self.cgroup.as_ref().map_or(0, Cgroup::oom_kills)
    }

    fn signal_init(&mut self, number: i32) -> std::io::Result<()> {
        let signal = Signal::from_named_raw(number).ok_or(std::io::ErrorKind::InvalidInput)?;
        let Some(init) = &self.init else { return Ok(()) };
        rustix::process::pidfd_send_signal(init, signal)?;
        // The frozen hear of it when they go on.
        if self.state.paused { self.unpause() } else { Ok(()) }
    }

    pub(super) fn reply(&mut self, number: u64, reply: &Reply) {
        if self.clients.get(&number).is_some_and(|client| client.connection.send(reply, &[]).is_err()) {
            self.clients.remove(&number);
        }
    }
}

fn refused(reason: &str) -> Reply {
    Reply::Refused { reason: reason.to_owned() }
}
