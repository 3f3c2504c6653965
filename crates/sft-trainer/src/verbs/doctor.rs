//! Whether this machine is fit for a run: device, libraries, kernels, memory, disk, hub.

use crate::Error;
use crate::config::SftConfig;
use crate::hub::{Hub, HubHealth, TokenState};
use crate::summary::grouped;
use crate::trainer::load::choose_device;
use crate::verbs::{Answer, Colours};
use checkpoint_callbacks::free_bytes;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor};
use torch_ext::{cuda, host, kernels};

/// Below this much free disk a run of any size is in danger.
const LITTLE_DISK: u64 = 10_000_000_000;
/// Below this much free memory the host may not be able to hold a dataset and libtorch.
const LITTLE_MEMORY: u64 = 4_000_000_000;

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// A run may be slow or may fail.
    Warning,
    /// A run fails.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How good it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do, if it is not good.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, found: found.into(), remedy: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self { name, level: Level::Warning, found: found.into(), remedy: Some(remedy.to_owned()) }
    }

    fn error(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self { name, level: Level::Error, found: found.into(), remedy: Some(remedy.to_owned()) }
    }
}

/// Looks at this machine as a run of this configuration would find it. `cache_folder` is that of
/// [`SftTrainerBuilder::cache_folder`](crate::SftTrainerBuilder::cache_folder), and `hub` as in
/// [`inspect`](super::inspect::inspect()). Nothing is changed, except that compiled kernels go to
/// the cache.
pub fn examine(config: &SftConfig, hub: Option<Hub>, cache_folder: Option<&Path>) -> Findings {
    let mut findings = vec![Finding::ok("version", format!("{} with torch 2.11.0", env!("CARGO_PKG_VERSION")))];
    findings.push(driver());
    match choose_device(config, cache_folder) {
        Ok(device) => findings.extend(device_findings(device)),
        Err(error) => findings.push(Finding::error("device", error.to_string(), "train on the CPU with `device` cpu")),
    }
    findings.push(match cache_folder {
        Some(folder) => Finding::ok("cache", folder.display().to_string()),
        None => Finding::warning("cache", "there is no folder for it", "set HOME or XDG_CACHE_HOME"),
    });
    findings.push(memory());
    findings.push(disk(&config.training.output_dir));
    findings.extend(match hub.map_or_else(Hub::from_env, Ok).and_then(|hub| hub.health()) {
        Ok(health) => hub_findings(&health),
        Err(error) => vec![Finding::error("hub", error.to_string(), "correct that variable")],
    });
    findings.push(locale(&|name| std::env::var(name).ok()));
    Findings(findings)
}

/// All that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Findings(pub Vec<Finding>);

impl Answer for Findings {
    fn text(&self, _colours: Colours) -> String {
        text(&self.0)
    }

    fn json(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }

    fn failure(&self) -> Option<String> {
        let names: Vec<_> = self.0.iter().filter(|found| found.level == Level::Error).map(|found| found.name).collect();
        (!names.is_empty()).then(|| format!("not fit for a run: {}", names.join(", ")))
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { name, level, found, remedy } in findings {
        let level = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "ERROR",
        };
        let found = crate::terminal_text::harmless(found).replace('\n', " ");
        let remedy = remedy.as_ref().map_or_else(String::new, |remedy| format!("; {remedy}"));
        let _ = writeln!(text, "{level:<8} {name:<10} {found}{remedy}");
    }
    text
}

fn driver() -> Finding {
    let version = fs::read_to_string("/proc/driver/nvidia/version").ok();
    match version.as_deref().and_then(|text| text.lines().next()) {
        Some(line) => Finding::ok("driver", line.trim_start_matches("NVRM version:").trim()),
        None => Finding::ok("driver", "no NVIDIA driver"),
    }
}

fn device_findings(device: Device) -> Vec<Finding> {
    let Device::Cuda(index) = device else {
        let found = "the CPU: there is no NVIDIA GPU";
        return vec![Finding::warning("device", found, "training takes many times as long as on a GPU")];
    };
    let mut findings = vec![Finding::ok("device", format!("cuda:{index}"))];
    findings.push(match loaded_from("libtorch_cuda.so") {
        Some(path) => Finding::ok("libraries", path),
        None => Finding::ok("libraries", "libtorch_cuda.so is loaded"),
    });
    findings.push(match check_kernel(device) {
        Ok(true) => Finding::ok("kernels", "one was compiled, and agrees with the CPU"),
        Ok(false) => {
            let found = "kernels cannot be compiled here: libtorch's own are used, which are slower";
            Finding::warning("kernels", found, "NVRTC must lie beside libtorch's libraries")
        }
        Err(error) => Finding::error("kernels", error, "compare with another driver, and tell the authors"),
    });
    // After the first tensor: libtorch knows nothing of a GPU's memory before.
    findings.push(match cuda::available_memory(index) {
        Ok(free) => Finding::ok("GPU memory", format!("{} GB are free", free / 1_000_000_000)),
        Err(error) => Finding::error("GPU memory", error.to_string(), "see what nvidia-smi says"),
    });
    findings
}

/// Where the process has a library from.
fn loaded_from(library: &str) -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().filter_map(|line| line.split_whitespace().last()).find(|path| path.ends_with(library));
    path.map(str::to_owned)
}

/// Adds up columns on the device and on the CPU. `false`: there are no kernels here.
fn check_kernel(device: Device) -> Result<bool, String> {
    let check = || {
        let on_cpu = Tensor::f_arange(64 * 96, (Kind::Float, Device::Cpu))?.f_remainder(7.0)?.f_view([64, 96])?;
        let on_device = on_cpu.f_to_device(device)?.f_to_kind(Kind::BFloat16)?;
        if !kernels::available(&[&on_device]) {
            return Ok::<_, Error>(None);
        }
        let mut sums = Tensor::f_zeros([96], (Kind::Float, device))?;
        kernels::column_sum::add(&on_device, &mut sums)?;
        // Small whole numbers: the sums are exact.
        let expected = on_cpu.f_sum_dim_intlist(&[0i64][..], false, Kind::Float)?;
        Ok(Some(sums.f_to_device(Device::Cpu)?.f_equal(&expected)?))
    };
    match check().map_err(|error| error.to_string())? {
        None => Ok(false),
        Some(true) => Ok(true),
        Some(false) => Err("sums of columns differ from those of the CPU".to_owned()),
    }
}

fn memory() -> Finding {
    let free = [host::memory().free_bytes, host::unused_cgroup_bytes()].into_iter().flatten().min();
    match free {
        Some(free) if free < LITTLE_MEMORY => {
            let found = format!("{} MB of the host's memory are free", grouped((free / 1_000_000) as usize));
            Finding::warning("memory", found, "end other programs, or limit `max_dataset_memory`")
        }
        Some(free) => Finding::ok("memory", format!("{} GB of the host's memory are free", free / 1_000_000_000)),
        None => Finding::ok("memory", "the system does not say what is free"),
    }
}

fn disk(output_dir: &Path) -> Finding {
    let place = output_dir.display();
    match free_bytes(output_dir) {
        Some(free) if free < LITTLE_DISK => {
            let found = format!("{} MB are free for {place}", grouped((free / 1_000_000) as usize));
            Finding::warning("disk", found, "make room, or choose an `output_dir` on another disk")
        }
        Some(free) => Finding::ok("disk", format!("{} GB are free for {place}", free / 1_000_000_000)),
        None => Finding::ok("disk", format!("the system does not say what is free for {place}")),
    }
}

fn hub_findings(health: &HubHealth) -> Vec<Finding> {
    let HubHealth { endpoint, failure, token } = health;
    let hub = match failure {
        None => Finding::ok("hub", format!("{endpoint} answers")),
        Some(failure) => {
            let remedy = "set HF_ENDPOINT to a mirror or HTTPS_PROXY to a proxy, or use folders and files on disk";
            Finding::warning("hub", format!("{endpoint}: {failure}"), remedy)
        }
    };
    let token = match token {
        TokenState::Valid { user } => Finding::ok("token", format!("that of {user}")),
        TokenState::Missing => Finding::ok("token", "none: only public repositories can be read"),
        TokenState::Unknown => Finding::ok("token", "there may be one; the hub was not asked"),
        TokenState::Refused => {
            let remedy = "set HF_TOKEN to a valid one, or unset it and delete the stored one";
            Finding::error("token", "the hub does not accept it", remedy)
        }
    };
    vec![hub, token]
}

fn locale(variable: &dyn Fn(&str) -> Option<String>) -> Finding {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let value = names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    match value {
        Some(value) if value.to_ascii_uppercase().replace('-', "").contains("UTF8") => Finding::ok("locale", value),
        value => {
            let found = format!("{}: not UTF-8", value.unwrap_or_else(|| "not set".to_owned()));
            Finding::warning("locale", found, "set LC_ALL to C.UTF-8 if texts look wrong on the terminal")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(failure: Option<&str>, token: TokenState) -> HubHealth {
        HubHealth { endpoint: "https://hub".to_owned(), failure: failure.map(str::to_owned), token }
    }

    #[test]
    fn the_hub_is_judged_by_its_answer() {
        let levels = |health| hub_findings(&health).iter().map(|finding| finding.level).collect::<Vec<_>>();
        assert_eq!(levels(health(None, TokenState::Missing)), [Level::Ok, Level::Ok]);
        assert_eq!(levels(health(None, TokenState::Refused)), [Level::Ok, Level::Error]);
        assert_eq!(levels(health(Some("no route"), TokenState::Unknown)), [Level::Warning, Level::Ok]);
        let lines = text(&hub_findings(&health(Some("no\nroute"), TokenState::Refused)));
        assert!(lines.starts_with("warning  hub        https://hub: no route; set HF_ENDPOINT"), "{lines}");
        assert!(lines.contains("\nERROR    token "), "{lines}");
    }

    #[test]
    fn a_hub_that_is_not_there_is_found_so() {
        let variables = |name: &str| (name == "HF_ENDPOINT").then(|| "http://127.0.0.1:9".to_owned());
        let health = Hub::from_variables(&variables).unwrap().health().unwrap();
        assert_eq!(health.token, TokenState::Missing);
        assert!(health.failure.is_some(), "{health:?}");
        let offline = |name: &str| (name == "HF_HUB_OFFLINE").then(|| "1".to_owned());
        assert!(Hub::from_variables(&offline).unwrap().health().unwrap().failure.unwrap().contains("offline"));
    }

    #[test]
    fn locales_are_told_apart() {
        let of = |value: &'static str| locale(&|name| (name == "LANG").then(|| value.to_owned())).level;
        assert_eq!(
            [of("C.UTF-8"), of("zh_CN.utf8"), of("POSIX"), of("")].map(|level| level == Level::Ok),
            [true, true, false, false]
        );
    }

    #[test]
    fn the_device_s_kernel_agrees_with_the_cpu_or_there_is_none() {
        assert!(!check_kernel(Device::Cpu).unwrap());
        assert_eq!(device_findings(Device::Cpu)[0].level, Level::Warning);
    }
}
