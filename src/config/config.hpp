#pragma once

#include "base/problem.hpp"
#include "base/time.hpp"
#include "registry/registry.hpp"
#include "service/address.hpp"
#include "service/service.hpp"

#include <array>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace curvegate::config {

using service::Address;
using service::EndOfStream;
using service::Failover;
using service::PlainSide;
using service::Proxy;
using service::Side;
using service::Wire;

struct Service {
    std::string name;
    std::size_t line = 0;         ///< of its [section], counted through all files
    std::size_t accept_line = 0;  ///< of its `accept`, likewise
    Side side = Side::server;
    Address accept;
    /// Never empty. Client: all of one wire. Server: all of one PlainSide. None stands twice.
    std::vector<Address> connect;
    Failover failover = Failover::prio;
    /// Client: the name in known_hosts whose key must answer, whatever the target; empty: that of each
    /// target's host, and the hosts differ. See peer_of().
    std::string peer;
    registry::AllowList allow;  ///< server
    /// For curvecp: the name that a client asks for and a server answers to; never empty. "*": a server that
    /// answers to every name that no other service on its address has.
    std::string server_name;
    std::array<std::uint8_t, 16> server_extension{};  ///< curvecp
    std::array<std::uint8_t, 16> client_extension{};  ///< curvecp, client end
    EndOfStream end_of_stream =
        EndOfStream::message;         ///< streams over curve_tun alone; else always `message`
    Proxy proxy = Proxy::none;        ///< server end, plain side a stream
    std::vector<IpBlock> proxy_from;  ///< server end of curve_tun
    service::Limits limits;
    friend bool operator==(const Service&, const Service&) = default;

    /// The address on the tunnel's side, and the one on the application's; of several targets the first.
    [[nodiscard]] const Address& tunnel() const noexcept { return side == Side::server ? accept : first(); }
    [[nodiscard]] const Address& plain() const noexcept { return side == Side::server ? first() : accept; }
    /// What is spoken in the tunnel.
    [[nodiscard]] Wire wire() const noexcept { return tunnel().wire.value_or(Wire::curve_tun); }
    [[nodiscard]] PlainSide plain_side() const noexcept { return service::plain_side(plain()); }
    /// Which of the settings above its wire has a use for. Where a client asks for no service it gets the one
    /// behind the address, whatever that is called.
    [[nodiscard]] service::WireOptions wire_options() const;
    /// Client: the name whose key must answer at `target`.
    [[nodiscard]] const std::string& peer_of(const Address& target) const noexcept {
        return peer.empty() ? target.host : peer;
    }
    /// Client: the peers of all targets, each once, in the order of the targets.
    [[nodiscard]] std::vector<std::string> peers() const;
    /// All targets, with commas.
    [[nodiscard]] std::string connect_text() const;

  private:
    [[nodiscard]] const Address& first() const noexcept;
};

/// Of handshakes, and of the end.
struct Timeouts : service::Timeouts {
    Duration drain = service::kDrain;
    [[nodiscard]] const service::Timeouts& of_handshakes() const noexcept { return *this; }
    friend bool operator==(const Timeouts&, const Timeouts&) = default;
};

enum class LogLevel { trace, debug, info, warning, error };
enum class LogFormat { text, json };
enum class Addresses { full, masked };       ///< of peers, where they are shown
enum class Strictness { require, attempt };  ///< "require" or "try"

/// A whole configuration file, checked; never changed after.
struct Config {
    std::string file;
    std::vector<std::string> files;  ///< `file`, and those that it includes: lines count through all of them
    std::string server_key;  ///< path; empty: not named, so a credential or the vault's own unit must have it
    std::string client_key;
    std::string known_hosts;
    std::string state_dir;  ///< empty: the folder of each key file
    std::string passphrase_file;
    std::string vault_socket;  ///< empty: the vault is started by the daemon
    std::string control;       ///< socket of the control commands; empty: none
    std::string control_group;
    std::string status_group;
    std::optional<Address> metrics;  ///< where to serve counters: a unix socket or a loopback port
    std::string vault_control;
    std::string log_file;  ///< empty: stderr
    Addresses log_addresses = Addresses::full;
    std::string audit;  ///< file of decisions; empty: none
    bool audit_required = false;
    unsigned workers = 0;  ///< 0: one for each CPU
    LogLevel log_level = LogLevel::info;
    LogFormat log_format = LogFormat::text;
    Strictness sandbox = Strictness::require;
    Strictness lock_memory = Strictness::require;
    Timeouts timeouts;
    service::Admission admission;
    std::size_t sessions = service::kMostSessions;  ///< at once, over all services
    std::vector<Service> services;
    std::map<std::string, std::size_t, std::less<>> lines;  ///< of the globals that the file sets

    /// "FILE:LINE" of a global, for a message; "FILE" if it is not set.
    [[nodiscard]] std::string place_of(std::string_view key) const;
    /// Does a section need the key, from whatever source?
    [[nodiscard]] bool needs_server_key() const;
    [[nodiscard]] bool needs_client_key() const;
    /// The service of this name, or nullptr.
    [[nodiscard]] const Service* find_service(std::string_view name) const;
    /// Problems of this configuration whose lines count through its files, with file and line as people know
    /// them.
    [[nodiscard]] Problems located(Problems problems) const;
    /// "line 7", or where there are several files "FILE:7".
    [[nodiscard]] std::string line_text(std::size_t line) const;
};

/// Lines of a configuration count through its files: line 7 of files[i] is i * kLinesAFile + 7.
inline constexpr std::size_t kLinesAFile = std::size_t{1} << 32;

/// A file of a configuration, as it was read.
struct Source {
    std::string file;
    std::string text;
    friend bool operator==(const Source&, const Source&) = default;
};

struct Parsed {
    Config config;
    Problems warnings;
    std::map<std::string, std::size_t, std::less<>> lines;  ///< where each key stands; see line_of

    /// The line of a key in the section of a service (empty: a global), or 0 if the file does not set it.
    [[nodiscard]] std::size_t line_of(std::string_view service, std::string_view key) const;
};
/// Parses the text of a configuration file; `file` is named in problems and relative paths are refused.
/// Reports every problem with its line; unknown keys with the nearest known one.
[[nodiscard]] std::expected<Parsed, Problems> parse(std::string_view text, std::string_view file);
/// The same of several files (include.hpp): the globals stand in the first one alone, the others have
/// sections and nothing above them.
[[nodiscard]] std::expected<Parsed, Problems> parse(const std::vector<Source>& sources);

/// The value of one global key, whatever else is wrong with the file; nothing if it does not stand there. For
/// commands that need no more than `known-hosts` or `control`.
[[nodiscard]] std::optional<std::string> find_global(std::string_view text, std::string_view key);

}  // namespace curvegate::config
