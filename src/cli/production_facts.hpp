#pragma once

#include "base/time.hpp"
#include "cli/config_checks.hpp"
#include "cli/key_checks.hpp"
#include "config/config.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

/// What `curvegate check --production` looks at before it judges. Nothing here changes anything.
namespace curvegate::cli {

enum class Dial : std::uint8_t { no, yes };

/// A file or folder as lstat says.
struct Look {
    std::string path;
    int error = 0;  ///< errno; 0: the rest is good
    unsigned uid = 0;
    unsigned mode = 0;  ///< with the type
};
[[nodiscard]] Look look_at(const std::string& path);

/// A file and each folder above it, as written and as it really is where links lead elsewhere; the file
/// first.
[[nodiscard]] std::vector<Look> look_up(const std::string& path);

/// A long-term key's file and counter.
struct KeyFacts {
    KeyUse use;
    std::vector<Look> file;
    bool readable = false;             ///< by us
    std::optional<bool> sealed;        ///< nothing: not known
    std::string counter;               ///< its path; empty: not known
    std::optional<CounterLook> state;  ///< nothing: not known
};

/// The process behind a unix socket that listens.
struct Peer {
    enum class State : std::uint8_t { not_set, silent, denied, there };
    State state = State::not_set;
    std::string path;
    unsigned uid = 0;
    int pid = 0;
};

/// A program of this installation.
struct Program {
    std::string name;
    std::string path;  ///< empty: not found
    std::vector<Look> file;
    std::string version;  ///< what --version says; empty: not asked, since others could have changed it
};

/// A folder whose disk matters.
struct Disk {
    std::string folder;
    int error = 0;           ///< errno; 0: the rest is good
    std::string vanishing;   ///< the kind of a file system that does not outlive a restart; else empty
    std::uint64_t free = 0;  ///< bytes, for ordinary users
    std::uint64_t size = 0;
};
[[nodiscard]] Disk look_at_disk(const std::string& folder);

struct Facts {
    const config::Parsed& parsed;
    Dial dial = Dial::no;
    WallTime now;
    unsigned uid = 0;  ///< ours
    Examined examined;
    std::vector<Look> config_file;
    std::vector<Look> known_hosts;
    std::vector<KeyFacts> keys;
    Peer daemon;  ///< behind `control`
    Peer vault;   ///< behind `vault`
    std::optional<Look> control_socket;
    std::optional<Look> control_folder;
    std::vector<Program> programs;
    int landlock = 0;                          ///< its version; 0: none
    bool clock_set = false;                    ///< the kernel holds its clock to be synchronised
    std::optional<std::uint64_t> descriptors;  ///< hard limit of the daemon, or ours if none runs

    [[nodiscard]] const config::Config& config() const noexcept { return parsed.config; }
};
[[nodiscard]] Facts gather(const config::Parsed& parsed, Dial dial);

/// What a program said, both outputs together, and its exit status (128 and the signal's number if one ended
/// it; 127: it could not be started).
struct Ran {
    int status = 0;
    std::string said;
};
[[nodiscard]] Ran run_program(const std::vector<std::string>& words);

}  // namespace curvegate::cli
