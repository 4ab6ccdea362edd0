//! The processes under load.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a program may take to start: a virtual machine takes its time.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// The variable that names another binary of the service than the one of this build.
const BINARY: &str = "BENCH_BINARY";

/// The binary under measurement.
pub fn binary() -> OsString {
    std::env::var_os(BINARY).unwrap_or_else(|| env!("CARGO_BIN_EXE_ordersystem").into())
}

/// The limits of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Open files.
    pub files: Option<u32>,
    /// Memory in MiB, if this program may create a control group.
    pub memory_mib: Option<u64>,
    /// CPU time in percent of one processor, if permitted.
    pub cpu_percent: Option<u64>,
}

/// A server process; ended when dropped.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    process: Child,
    group: Option<ControlGroup>,
}

impl Server {
    /// The service as released.
    pub async fn service() -> Self {
        Self::service_of(&binary()).await
    }

    /// The service from another binary.
    pub async fn service_of(binary: &OsString) -> Self {
        let address = free_address();
        let mut command = Command::new(binary);
        command.args(["--log-level", "warn", "--port", &address.port().to_string()]);
        Self::start(command, address).await
    }

    /// The service with these flags, on a free port, with its default log, which is written but not read.
    pub fn on_any_port(flags: &[String], limits: Limits) -> Self {
        Self::on_any_port_of(&binary(), flags, limits)
    }

    /// The same from another binary.
    pub fn on_any_port_of(binary: &OsString, flags: &[String], limits: Limits) -> Self {
        let group = ControlGroup::new(limits);
        let mut script = String::new();
        if let Some(files) = limits.files {
            script.push_str(&format!("ulimit -n {files}; "));
        }
        for folder in group.iter().flat_map(|group| &group.0) {
            script.push_str(&format!("echo $$ > {}/cgroup.procs; ", folder.display()));
        }
        let mut command = Command::new("sh");
        command.args(["-c", &(script + "exec \"$0\" \"$@\"")]).arg(binary).args(["--port", "0"]).args(flags);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut log = BufReader::new(process.stderr.take().expect("stderr")).lines().map_while(Result::ok);
        let banner = log.find(|line| line.contains("is listening on")).expect("it listens");
        let url = banner.split("is listening on ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = url.and_then(|url| url.split("://").nth(1)?.parse().ok()).expect("an address");
        std::thread::spawn(move || log.for_each(drop));
        Self { address, process, group }
    }

    /// The service on a store: "embedded" in `folder`, "redis" at REDIS_URL; `None` if that is not set.
    pub fn service_on(store: &str, folder: &Path, limits: Limits) -> Option<Self> {
        let mut flags = ["--persistence", store].map(str::to_owned).to_vec();
        match store {
            "embedded" => flags.extend(["--data-dir".to_owned(), folder.to_str()?.to_owned()]),
            "redis" => flags.extend(["--redis".to_owned(), std::env::var("REDIS_URL").ok()?]),
            _ => {}
        }
        Some(Self::on_any_port(&flags, limits))
    }

    /// A server of this program that only replies.
    pub async fn ceiling(kind: &str) -> Self {
        Self::ceiling_on(kind, None).await
    }

    /// The same; each CreateOrder writes to the store at this URL, if there is one, which has so many replicas.
    pub async fn ceiling_on(kind: &str, store: Option<(&str, usize)>) -> Self {
        let address = free_address();
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--ceiling", kind]).env("CEILING_ADDRESS", address.to_string());
        if let Some((url, replicas)) = store {
            command.env("CEILING_STORE", url).env("CEILING_REPLICAS", replicas.to_string());
        }
        Self::start(command, address).await
    }

    /// Another program, which will listen on `address`.
    pub async fn start(mut command: Command, address: SocketAddr) -> Self {
        let process = command.stdout(Stdio::null()).spawn().expect("starts");
        let server = Self { address, process, group: None };
        let began = Instant::now();
        while began.elapsed() < STARTS_WITHIN {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no server at {address} after {STARTS_WITHIN:?}");
    }

    /// The user and system time of the process so far.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.process.id())
    }

    /// Resets the peak of the memory of the process.
    pub fn forget_peak(&self) {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5");
    }

    /// Its peak memory since then, in MiB; `None` if it has ended.
    pub fn peak_mib(&self) -> Option<u64> {
        self.memory_mib("VmHWM:")
    }

    /// Its current memory, in MiB; `None` if it has ended.
    pub fn held_mib(&self) -> Option<u64> {
        self.memory_mib("VmRSS:")
    }

    /// Its current memory, in bytes.
    pub fn held_bytes(&self) -> f64 {
        self.memory_kib("VmRSS:").expect("it runs") as f64 * 1024.0
    }

    fn memory_mib(&self, field: &str) -> Option<u64> {
        self.memory_kib(field).map(|kib| kib / 1024)
    }

    fn memory_kib(&self, field: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Whether the system limits it.
    pub fn is_confined(&self) -> bool {
        self.group.is_some()
    }
}

/// Control groups of processes; removed when dropped.
#[derive(Debug)]
struct ControlGroup(Vec<PathBuf>);

/// The period for which the system accounts CPU time of a group: too short for clients to notice.
const CPU_PERIOD_US: u64 = 10_000;

impl ControlGroup {
    /// `None` if there is no limit, or if this program may not create a group.
    fn new(limits: Limits) -> Option<Self> {
        let memory = limits.memory_mib.map(|mib| (mib << 20).to_string());
        let quota = limits.cpu_percent.map(|percent| (percent * CPU_PERIOD_US / 100).to_string());
        // The files of cgroup version 1, with a folder for each controller, and of version 2.
        let mut first = Vec::new();
        first.extend(memory.iter().map(|bytes| ("memory", "memory.limit_in_bytes", bytes.clone())));
        if let Some(quota) = &quota {
            first.push(("cpu", "cpu.cfs_period_us", CPU_PERIOD_US.to_string()));
            first.push(("cpu", "cpu.cfs_quota_us", quota.clone()));
        }
        let mut second = Vec::new();
        second.extend(memory.iter().map(|bytes| ("", "memory.max", bytes.clone())));
        second.extend(quota.iter().map(|quota| ("", "cpu.max", format!("{quota} {CPU_PERIOD_US}"))));
        if first.is_empty() {
            return None;
        }
        Self::with(&first).or_else(|| Self::with(&second))
    }

    fn with(bounds: &[(&str, &str, String)]) -> Option<Self> {
        let mut group = Self(Vec::new());
        for (kind, file, value) in bounds {
            let folder =
                Path::new("/sys/fs/cgroup").join(kind).join(format!("ordersystem-bench-{}", std::process::id()));
            if !group.0.contains(&folder) {
                fs::create_dir(&folder).ok()?;
                group.0.push(folder.clone());
            }
            fs::write(folder.join(file), value).ok()?;
        }
        Some(group)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The user and system time of a process so far.
pub fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("/proc");
    // Fields 14 and 15, counted from 1; the second is the name in parentheses, which may contain spaces.
    let after_name = &stat[stat.rfind(')').expect("stat") + 2..];
    let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
    // USER_HZ is 100 on every relevant Linux.
    Duration::from_millis(ticks * 10)
}

/// An address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
