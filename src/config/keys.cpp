#include "config/keys.hpp"

#include "config/address.hpp"
#include "text/reading.hpp"

#include <algorithm>

namespace curvegate::config {
namespace {

using enum Where;
using namespace std::chrono_literals;

// What nobody can mean on purpose is refused; everything else is the user's choice.
constexpr Range<Duration> kWait = {1ms, 24h};
constexpr Range<Duration> kDrain = {0ms, 24h};
constexpr Range<Duration> kLong = {1s, 24h * 3650};
constexpr Range<std::uint64_t> kMany = {1, 100'000'000};
constexpr Range<std::uint64_t> kWorkers = {0, 256};
constexpr Range<double> kRate = {0.001, 1e9};

constexpr std::array<std::pair<std::string_view, LogLevel>, 5> kLogLevels = {{{"trace", LogLevel::trace},
                                                                              {"debug", LogLevel::debug},
                                                                              {"info", LogLevel::info},
                                                                              {"warning", LogLevel::warning},
                                                                              {"error", LogLevel::error}}};
constexpr std::array<std::pair<std::string_view, LogFormat>, 2> kLogFormats = {
    {{"text", LogFormat::text}, {"json", LogFormat::json}}};
constexpr std::array<std::pair<std::string_view, Addresses>, 2> kAddresses = {
    {{"full", Addresses::full}, {"masked", Addresses::masked}}};
constexpr std::array<std::pair<std::string_view, bool>, 2> kYesOrNo = {{{"yes", true}, {"no", false}}};
constexpr std::array<std::pair<std::string_view, Strictness>, 2> kStrictness = {
    {{"require", Strictness::require}, {"try", Strictness::attempt}}};
constexpr std::array<std::pair<std::string_view, Side>, 2> kSides = {
    {{"yes", Side::client}, {"no", Side::server}}};
constexpr std::array<std::pair<std::string_view, EndOfStream>, 2> kEndsOfStream = {
    {{"message", EndOfStream::message}, {"close", EndOfStream::close}}};

constexpr std::array<std::pair<std::string_view, Proxy>, 2> kProxies = {
    {{"none", Proxy::none}, {"v2", Proxy::v2}}};
constexpr std::array<std::pair<std::string_view, Failover>, 2> kFailovers = {
    {{"prio", Failover::prio}, {"rr", Failover::round_robin}}};

Value<std::optional<Duration>> parse_bound(std::string_view text) {
    if (text == "none") return std::nullopt;
    return parse_duration(text, kLong);
}

void add_targets(Setting& setting) {
    for (std::string_view rest = setting.value;;) {
        const auto comma = rest.find(',');
        const auto target = text::trim(rest.substr(0, comma));
        setting.service.connect.push_back({std::string(target), setting.line});
        if (comma == std::string_view::npos) return;
        rest.remove_prefix(comma + 1);
    }
}

constexpr auto kKeys = std::to_array<Key>({
    {"server-key", global, "PATH", "key file of the server ends",
     [](Setting& s) { s.store(s.config.server_key, parse_path(s.value)); }},
    {"client-key", global, "PATH", "key file of the client ends",
     [](Setting& s) { s.store(s.config.client_key, parse_path(s.value)); }},
    {"known-hosts", global, "PATH", "the peers' names and public keys; a symbolic link is followed",
     [](Setting& s) { s.store(s.config.known_hosts, parse_path(s.value)); }},
    {"state-dir", global, "PATH", "folder of the nonce counters (default: that of each key file)",
     [](Setting& s) { s.store(s.config.state_dir, parse_path(s.value)); }},
    {"passphrase-file", global, "PATH", "passphrase of sealed key files (default: asked on the terminal)",
     [](Setting& s) { s.store(s.config.passphrase_file, parse_path(s.value)); }},
    {"vault", global, "unix:PATH", "socket of a vault that runs on its own (default: one is started)",
     [](Setting& s) { s.store(s.config.vault_socket, parse_unix_socket(s.value)); }},
    {"control", global, "PATH", "socket of the control commands",
     [](Setting& s) { s.store(s.config.control, parse_path(s.value)); }},
    {"control-group", global, "NAME", "group whose members may use the control commands",
     [](Setting& s) { s.store(s.config.control_group, parse_name(s.value)); }},
    {"status-group", global, "NAME", "group whose members may ask for the status, and no more",
     [](Setting& s) { s.store(s.config.status_group, parse_name(s.value)); }},
    {"metrics", global, "127.0.0.1:PORT|[::1]:PORT|unix:PATH", "where to serve counters to Prometheus",
     [](Setting& s) { s.store(s.config.metrics, parse_metrics(s.value)); }},
    {"vault-control", global, "PATH", "control socket of the vault",
     [](Setting& s) { s.store(s.config.vault_control, parse_path(s.value)); }},
    {"include", global, "PATH",
     "a file with further sections, or a folder of such files, NAME.conf; may stand several times",
     [](Setting& s) {
         std::string path;
         s.store(path, parse_path(s.value));
     },
     Times::any},
    {"workers", global, "NUMBER", "threads (default 0: one for each CPU)",
     [](Setting& s) { s.store(s.config.workers, parse_count(s.value, kWorkers)); }},
    {"log-level", global, "trace|debug|info|warning|error", "the least that is logged (default info)",
     [](Setting& s) { s.store(s.config.log_level, parse_choice(s.value, kLogLevels)); }},
    {"log-format", global, "text|json", "form of a log line (default text)",
     [](Setting& s) { s.store(s.config.log_format, parse_choice(s.value, kLogFormats)); }},
    {"log-file", global, "PATH", "where to log (default: standard error)",
     [](Setting& s) { s.store(s.config.log_file, parse_path(s.value)); }},
    {"log-addresses", global, "full|masked",
     "peers' addresses in log, status and audit; masked: their networks, /24 and /48 (default full)",
     [](Setting& s) { s.store(s.config.log_addresses, parse_choice(s.value, kAddresses)); }},
    {"audit", global, "PATH", "file of who was let in or refused, and of what was configured",
     [](Setting& s) { s.store(s.config.audit, parse_path(s.value)); }},
    {"audit-required", global, "yes|no", "no new session while audit cannot be written (default no)",
     [](Setting& s) { s.store(s.config.audit_required, parse_choice(s.value, kYesOrNo)); }},
    {"sandbox", global, "require|try",
     "refuse to start, or go on, where the kernel cannot confine (default require)",
     [](Setting& s) { s.store(s.config.sandbox, parse_choice(s.value, kStrictness)); }},
    {"lock-memory", global, "require|try", "the same for locking secrets into memory (default require)",
     [](Setting& s) { s.store(s.config.lock_memory, parse_choice(s.value, kStrictness)); }},
    {"drain-timeout", global, "DURATION", "how long sessions may end in peace after TERM (default 5s)",
     [](Setting& s) { s.store(s.config.timeouts.drain, parse_duration(s.value, kDrain)); }},
    {"hello-timeout", global, "DURATION", "how long a server end waits for the Hello (default 5s)",
     [](Setting& s) { s.store(s.config.timeouts.hello, parse_duration(s.value, kWait)); }},
    {"vouch-timeout", global, "DURATION", "how long a server end waits for the vouch (default 5s)",
     [](Setting& s) { s.store(s.config.timeouts.vouch, parse_duration(s.value, kWait)); }},
    {"vault-timeout", global, "DURATION", "how long an answer of the vault may take (default 5s)",
     [](Setting& s) { s.store(s.config.timeouts.vault, parse_duration(s.value, kWait)); }},
    {"handshake-rate", global, "NUMBER",
     "unfinished handshakes per second and source, under load (default 64)",
     [](Setting& s) { s.store(s.config.admission.handshake_rate, parse_rate(s.value, kRate)); }},
    {"handshake-burst", global, "NUMBER",
     "unfinished handshakes at once per source, under load (default 2048)",
     [](Setting& s) { s.store(s.config.admission.handshake_burst, parse_count(s.value, kMany)); }},
    {"half-open-per-source", global, "NUMBER", "unfinished handshakes per source, always (default 2048)",
     [](Setting& s) { s.store(s.config.admission.half_open_per_source, parse_count(s.value, kMany)); }},
    {"half-open", global, "NUMBER", "unfinished handshakes in all, always (default 16384)",
     [](Setting& s) { s.store(s.config.admission.half_open, parse_count(s.value, kMany)); }},
    {"sessions", global, "NUMBER", "sessions at once, over all services (default 250000)",
     [](Setting& s) { s.store(s.config.sessions, parse_count(s.value, kMany)); }},

    {"connect-timeout", either, "DURATION", "for name, connection and handshake together (default 10s)",
     [](Setting& s) { s.store(s.service.service.limits.connect_timeout, parse_duration(s.value, kWait)); }},
    {"idle-timeout", either, "DURATION", "how long a session may carry nothing (default 12h)",
     [](Setting& s) { s.store(s.service.service.limits.idle_timeout, parse_duration(s.value, kLong)); }},
    {"dead-peer", either, "DURATION",
     "how long a peer, or the machine of a local program, may be unreachable (default 60s)",
     [](Setting& s) { s.store(s.service.service.limits.dead_peer, parse_duration(s.value, kLong)); }},
    {"max-session", either, "DURATION|none", "how old a session may become (default none)",
     [](Setting& s) { s.store(s.service.service.limits.max_session, parse_bound(s.value)); }},
    {"sessions-per-peer", either, "NUMBER", "sessions of one peer at once (default 16384)",
     [](Setting& s) { s.store(s.service.service.limits.sessions_per_peer, parse_count(s.value, kMany)); }},
    {"sessions-per-source", either, "NUMBER",
     "server: sessions of one IPv4 address or IPv6 /64 at once, over all services (default 65536)",
     [](Setting& s) { s.store(s.service.service.limits.sessions_per_source, parse_count(s.value, kMany)); }},
    {"sessions-per-service", either, "NUMBER", "sessions of one service at once (default 131072)",
     [](Setting& s) { s.store(s.service.service.limits.sessions_per_service, parse_count(s.value, kMany)); }},
    {"end-of-stream", either, "message|close",
     "how an end is told: authenticated, or (foreign peers) by FIN (default message)",
     [](Setting& s) { s.store(s.service.service.end_of_stream, parse_choice(s.value, kEndsOfStream)); }},
    {"server-extension", either, "HEX", "with curvecp: the server's 16 bytes of extension (default 0...0)",
     [](Setting& s) { s.store(s.service.service.server_extension, parse_extension(s.value)); }},
    {"client-extension", either, "HEX", "client with curvecp: its 16 bytes of extension (default 0...0)",
     [](Setting& s) { s.store(s.service.service.client_extension, parse_extension(s.value)); }},
    {"flow-idle", either, "DURATION",
     "client with accept = udp:...: how long a source may carry nothing (default 60s)",
     [](Setting& s) { s.store(s.service.service.limits.flow_idle, parse_duration(s.value, kLong)); }},
    {"flows", either, "NUMBER", "client with accept = udp:...: sources at once (default 1024)",
     [](Setting& s) { s.store(s.service.service.limits.flows, parse_count(s.value, kMany)); }},

    {"client", service, "yes|no", "yes: plain in, tunnel out; no: tunnel in, plain out (default no)",
     [](Setting& s) { s.store(s.service.service.side, parse_choice(s.value, kSides)); }},
    {"accept", service, "ADDRESS|none",
     "where to listen (client with none: nowhere; for curvegate connect alone)",
     [](Setting& s) { s.service.accept = s.value; }},
    {"connect", service, "ADDRESS,...",
     "where to connect to; several lines or a list: the next one where one fails", add_targets, Times::any},
    {"failover", service, "prio|rr",
     "several targets: in their order, or each connection begins with the next one (default prio)",
     [](Setting& s) { s.store(s.service.service.failover, parse_choice(s.value, kFailovers)); }},
    {"peer", service, "NAME", "client: whose key must answer, at every target (default: the host of each)",
     [](Setting& s) { s.store(s.service.service.peer, parse_name(s.value)); }},
    {"allow", service, "NAME,...|*", "server: who may use the service (default: nobody)",
     [](Setting& s) { s.store(s.service.service.allow, parse_allow(s.value)); }},
    {"server-name", service, "NAME|*",
     "with curvecp: the service that a client asks for and a server answers to (default: this one's name; *: "
     "any)",
     [](Setting& s) { s.store(s.service.service.server_name, parse_server_name(s.value)); }},
    {"proxy", service, "none|v2", "server: tell the service who connects, by a PROXY header (default none)",
     [](Setting& s) { s.store(s.service.service.proxy, parse_choice(s.value, kProxies)); }},
    {"proxy-from", service, "ADDRESS[/BITS],...",
     "server with curve_tun: the fronts that begin each connection with a PROXY header (default: none)",
     [](Setting& s) { s.store(s.service.service.proxy_from, parse_blocks(s.value)); }},

});

}  // namespace

std::span<const Key> all_keys() {
    return kKeys;
}

const Key* find_key(std::string_view name) {
    const auto* const found = std::ranges::find(kKeys, name, &Key::name);
    return found != kKeys.end() ? &*found : nullptr;
}

std::vector<std::string_view> key_names() {
    return text::words_of(kKeys, &Key::name);
}

}  // namespace curvegate::config
