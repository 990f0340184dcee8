#include "cli/production.hpp"
#include "os/file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

/// Items 1 to 13 and 31: users, files, programs, disks.
namespace curvegate::cli::rules {
namespace {

constexpr int kWholeLandlock = 6;  // its version that knows signals and abstract sockets
constexpr std::uint64_t kLeastRoom = std::uint64_t{16} * 1024 * 1024;
constexpr unsigned kOthersWrite = 022;
constexpr unsigned kOthersAny = 077;

std::string uid_text(unsigned uid) {
    return "uid " + std::to_string(uid);
}

std::string octal(unsigned mode) {
    std::string out;
    for (unsigned rest = mode & 07777; rest != 0; rest /= 8)
        out.insert(out.begin(), static_cast<char>('0' + rest % 8));
    return out.empty() ? "0" : out;
}

/// Who else than root and `owner` may change one of these. In a folder with the sticky bit others may make
/// files but touch none that is there.
Finding others_change(const std::vector<Look>& way, std::optional<unsigned> owner = std::nullopt) {
    for (const Look& look : way) {
        if (look.error == EACCES)
            return not_checked(look.path + " cannot be looked at by " + uid_text(::geteuid()));
        if (look.error != 0) return not_met(look.path + ": " + std::strerror(look.error), "put it there");
        if (look.uid != 0 && look.uid != owner)
            return not_met(look.path + " belongs to " + uid_text(look.uid),
                           S_ISDIR(look.mode) ? "use a folder that is root's, as /etc/curvegate"
                                              : "chown root " + look.path);
        const bool sticky = S_ISDIR(look.mode) && (look.mode & S_ISVTX) != 0;
        if ((look.mode & kOthersWrite) != 0 && !sticky)
            return not_met(look.path + " has mode " + octal(look.mode) + ": others may change it",
                           "chmod go-w " + look.path);
    }
    return met();
}

/// Why keys and counters are not ours to look at; nothing if they are.
std::optional<Finding> elsewhere(const Facts& facts) {
    const auto& config = facts.config();
    if (config.vault_socket.empty()) return std::nullopt;
    return not_checked("keys and counters are those of the vault at " + config.vault_socket);
}

Finding unreadable(const std::string& path) {
    return not_checked(path + " may not be read by " + uid_text(::geteuid()));
}

Finding key_file(const KeyFacts& key, const Facts& facts) {
    if (key.use.path.empty()) return not_checked(std::string(key.use.key) + " is not named");
    if (key.use.is_credential) return met();
    const Look& file = key.file.front();
    // Of a vault that does not run only this is known: whoever owns a file of mode 0600 is who can read it.
    const bool running = facts.daemon.state == Peer::State::there;
    const unsigned vault = running ? facts.daemon.uid : file.uid;
    Finding ways = others_change(key.file, vault);
    if (ways.kind != Finding::Kind::ok) return ways;
    if (!S_ISREG(file.mode)) return not_met(file.path + " is no regular file", "make it one");
    if ((file.mode & kOthersAny) != 0)
        return not_met(file.path + " has mode " + octal(file.mode), "chmod 600 " + file.path);
    return met();
}

Finding at_rest(const KeyFacts& key, const Facts&) {
    if (key.use.is_credential && !key.use.path.empty()) return met();
    if (key.use.path.empty()) return not_checked(std::string(key.use.key) + " is not named");
    if (!key.sealed) return unreadable(key.use.path);
    if (*key.sealed) return met();
    return not_met(key.use.path + " holds the secret in the clear",
                   "give it as a systemd credential, or make a key with keygen --passphrase");
}

Finding lasting(const KeyFacts& key, const Facts& facts) {
    const auto& state = facts.config().state_dir;
    if (state.empty() && key.use.path.empty()) return not_checked(std::string(key.use.key) + " is not named");
    const Disk disk = look_at_disk(state.empty() ? os::folder_of(key.use.path) : state);
    if (disk.error != 0) return not_checked(disk.folder + ": " + std::strerror(disk.error));
    if (disk.vanishing.empty()) return met();
    return not_met(disk.folder + " is on " + disk.vanishing + ", whose files a restart may take away",
                   "set state-dir to a folder on a disk");
}

Finding whole(const KeyFacts& key, const Facts&) {
    if (key.use.path.empty()) return not_checked(std::string(key.use.key) + " is not named");
    if (key.counter.empty()) return unreadable(key.use.path);
    if (!key.state) return unreadable(key.counter);
    if (!key.state->problem.empty())
        return not_met(key.state->problem, "see docs/guides/counter-recovery.md");
    if (key.state->damaged)
        return not_met(key.counter + " has a slot that does not read",
                       "look at the disk; the next write mends it");
    return met();
}

/// The same rule for each key: the first that is not met counts, then the first that is not checked.
Finding each_key(const Facts& facts, Finding (*rule)(const KeyFacts&, const Facts&)) {
    if (auto why = elsewhere(facts)) return *why;
    Finding out = met();
    for (const KeyFacts& key : facts.keys) {
        Finding one = rule(key, facts);
        if (one.kind == Finding::Kind::no) return one;
        if (one.kind == Finding::Kind::open && out.kind == Finding::Kind::ok) out = std::move(one);
    }
    return out;
}

std::string why_unknown(const Peer& peer, const std::string& key, const std::string& who) {
    switch (peer.state) {
        case Peer::State::not_set: return key + " is not set, so " + who + " cannot be found";
        case Peer::State::silent: return who + " does not run, or not with " + peer.path;
        case Peer::State::denied: return peer.path + " is not for " + uid_text(::geteuid());
        case Peer::State::there: break;
    }
    return {};
}

}  // namespace

Finding check_is_clean(const Facts& facts) {
    const auto& seen = facts.examined;
    const auto hidden = std::ranges::find_if(
        facts.keys, [](const KeyFacts& key) { return !key.use.path.empty() && !key.readable; });
    const std::size_t count = seen.warnings.size() + seen.known_hosts.size() + seen.problems.size();
    if (count != 0 && count == seen.problems.size() && hidden != facts.keys.end() &&
        count <= static_cast<std::size_t>(std::ranges::count(facts.keys, false, &KeyFacts::readable)))
        return unreadable(hidden->use.path);
    for (const Problems* found : {&seen.known_hosts, &seen.problems, &seen.warnings}) {
        if (!found->empty()) return not_met(found->front().message(), "see curvegate check");
    }
    return met();
}

Finding config_owner(const Facts& facts) {
    return others_change(facts.config_file);
}

Finding known_hosts_owner(const Facts& facts) {
    return others_change(facts.known_hosts);
}

Finding key_files(const Facts& facts) {
    return each_key(facts, key_file);
}

Finding key_at_rest(const Facts& facts) {
    return each_key(facts, at_rest);
}

Finding not_root(const Facts& facts) {
    if (facts.daemon.state != Peer::State::there)
        return not_checked(why_unknown(facts.daemon, "control", "the daemon"));
    if (facts.daemon.uid != 0) return met();
    return not_met("the daemon runs as root", "start it as a user of its own");
}

Finding vault_apart(const Facts& facts) {
    const Peer& vault = facts.vault;
    if (vault.state == Peer::State::not_set) {
        return not_met("the daemon starts the vault, so its user may read the key files",
                       "run curvegate-vault as a user of its own and set vault");
    }
    if (vault.state != Peer::State::there) return not_checked(why_unknown(vault, "vault", "the vault"));
    if (vault.uid == 0) return not_met("the vault runs as root", "start it as a user of its own");
    if (facts.daemon.state != Peer::State::there)
        return not_checked(why_unknown(facts.daemon, "control", "the daemon"));
    if (vault.uid != facts.daemon.uid) return met();
    return not_met("vault and daemon both run as " + uid_text(vault.uid), "give the vault a user of its own");
}

Finding confined(const Facts& facts) {
    const auto& config = facts.config();
    if (config.sandbox != config::Strictness::require)
        return not_met("sandbox = try goes on where nothing is confined", "set it to require");
    if (config.lock_memory != config::Strictness::require)
        return not_met("lock-memory = try goes on where secrets may be swapped out", "set it to require");
    return met();
}

Finding kernel(const Facts& facts) {
    if (facts.landlock >= kWholeLandlock) return met();
    if (facts.landlock == 0) return not_met("the kernel has no Landlock", "use one that has it");
    return not_met("the kernel's Landlock is version " + std::to_string(facts.landlock) +
                       ", which leaves signals and abstract sockets to a hijacked process",
                   "use Linux 6.12 or later");
}

Finding programs(const Facts& facts) {
    std::set<std::string> versions;
    std::string said;
    for (const Program& program : facts.programs) {
        if (program.path.empty()) return not_checked(program.name + " is not found beside curvegate");
        Finding ways = others_change(program.file);
        if (ways.kind != Finding::Kind::ok) return ways;
        versions.insert(program.version);
        said += (said.empty() ? "" : ", ") + program.name + " " + program.version;
    }
    if (versions.size() <= 1) return met();
    return not_met("their versions differ: " + said, "install them from one package");
}

Finding counter_lasts(const Facts& facts) {
    return each_key(facts, lasting);
}

Finding counter_whole(const Facts& facts) {
    return each_key(facts, whole);
}

Finding disk_room(const Facts& facts) {
    const auto& config = facts.config();
    std::set<std::string> folders = {os::folder_of(config.known_hosts)};
    if (!config.log_file.empty()) folders.insert(os::folder_of(config.log_file));
    for (const KeyFacts& key : facts.keys) {
        if (!key.counter.empty()) folders.insert(os::folder_of(key.counter));
    }
    for (const auto& folder : folders) {
        const Disk disk = look_at_disk(folder);
        if (disk.error != 0) return not_checked(folder + ": " + std::strerror(disk.error));
        if (disk.free >= kLeastRoom && disk.free >= disk.size / 20) continue;
        return not_met(
            "the disk of " + folder + " has " + std::to_string(disk.free / 1024 / 1024) + " MiB left",
            "make room");
    }
    return met();
}

Finding control_private(const Facts& facts) {
    if (facts.config().control.empty()) return met();
    const Look& socket = *facts.control_socket;
    const Look& folder = *facts.control_folder;
    if (socket.error != 0) return not_checked(socket.path + ": " + std::strerror(socket.error));
    const unsigned owner = facts.daemon.state == Peer::State::there ? facts.daemon.uid : socket.uid;
    // A file has one group. With two groups the daemon asks the kernel who speaks.
    const bool two_groups = !facts.config().control_group.empty() && !facts.config().status_group.empty();
    if ((socket.mode & 0007) != 0 && !two_groups)
        return not_met(socket.path + " has mode " + octal(socket.mode), "chmod o= " + socket.path);
    // The sticky bit is no help here: whoever makes the socket first is the daemon for all who ask it.
    if (folder.uid != 0 && folder.uid != owner)
        return not_met(folder.path + " belongs to " + uid_text(folder.uid),
                       "put the socket in a folder of the daemon's user");
    if ((folder.mode & kOthersWrite) != 0)
        return not_met(folder.path + " has mode " + octal(folder.mode) + ": others may put a socket there",
                       "put it in a folder of the daemon's user");
    return met();
}

}  // namespace curvegate::cli::rules
