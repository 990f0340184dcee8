#include "config/keys.hpp"
#include "tests/unit/config_support.hpp"

#include <random>

namespace curvegate::config {
namespace {

using namespace std::chrono_literals;
using Catch::Matchers::Contains;
using Catch::Matchers::Equals;

const std::string kServer = "[web]\naccept = curve_tun:0.0.0.0:4433\nconnect = 127.0.0.1:80\nallow = a\n";
const std::string kClient =
    "[out]\nclient = yes\naccept = 127.0.0.1:8080\nconnect = curve_tun:server.example:4433\n";

TEST_CASE("the example of the manual is read", "[config]") {
    const std::string text = R"(; globals first, then a section a service
server-key  = /etc/curvegate/server.key     ; the vault opens them
client-key  = /etc/curvegate/client.key
known-hosts = /etc/curvegate/known_hosts
state-dir   = /var/lib/curvegate
control     = /run/curvegate/control.sock
workers     = 0                             ; one a CPU
log-level   = info
log-format  = text                          ; or json

[web]                                       ; server end
accept  = curve_tun:0.0.0.0:4433
connect = 127.0.0.1:8080
allow   = laptop, phone

[web-from-laptop]
client  = yes
accept  = 127.0.0.1:8080
connect = curvecp:server.example:4433
peer    = server.example
server-name = web
)";
    const Config config = good(text);
    CHECK(config.file == "f.conf");
    CHECK(config.server_key == "/etc/curvegate/server.key");
    CHECK(config.client_key == "/etc/curvegate/client.key");
    CHECK(config.known_hosts == "/etc/curvegate/known_hosts");
    CHECK(config.state_dir == "/var/lib/curvegate");
    CHECK(config.control == "/run/curvegate/control.sock");
    REQUIRE(config.services.size() == 2);
    const Service& server = config.services[0];
    CHECK(server.name == "web");
    CHECK(server.line == 11);
    CHECK(server.side == Side::server);
    CHECK(server.accept == Address{.kind = Address::Kind::tcp,
                                   .wire = service::Wire::curve_tun,
                                   .host = "0.0.0.0",
                                   .port = 4433,
                                   .path = "",
                                   .passed = ""});
    CHECK(server.connect_text() == "127.0.0.1:8080");
    CHECK(server.allow.names == std::vector<std::string>{"laptop", "phone"});
    const Service& client = config.services[1];
    CHECK(client.side == Side::client);
    CHECK(client.connect_text() == "curvecp:server.example:4433");
    CHECK(client.peer == "server.example");
    CHECK(client.server_name == "web");
    CHECK(config.find_service("web") == &server);
    CHECK(config.find_service("wep") == nullptr);
}

TEST_CASE("what a file does not set has the documented default", "[config]") {
    const Config config = good(kHead + kServer);
    CHECK(config.workers == 0);
    CHECK(config.log_level == LogLevel::info);
    CHECK(config.sandbox == Strictness::require);
    CHECK(config.lock_memory == Strictness::require);
    CHECK(config.timeouts.hello == 5s);
    CHECK(config.timeouts.drain == 5s);
    CHECK(config.admission.handshake_burst == 2'048);
    CHECK(config.admission.half_open == 16'384);
    const service::Limits& limits = config.services[0].limits;
    CHECK(limits.connect_timeout == 10s);
    CHECK(limits.idle_timeout == 12h);
    CHECK(limits.dead_peer == 60s);
    CHECK_FALSE(limits.max_session);
    CHECK(limits.sessions_per_peer == 16'384);
    CHECK(limits.sessions_per_source == 65'536);
    CHECK(limits.sessions_per_service == 131'072);
    CHECK(config.sessions == 250'000);
    CHECK(config.services[0].end_of_stream == EndOfStream::message);
}

TEST_CASE("every key lands in its place", "[config]") {
    const Config config = good(R"(server-key = /s
client-key = /c
known-hosts = /k
state-dir = /d
passphrase-file = /p
vault = unix:/v
control = /ctl
control-group = adm
status-group = users
vault-control = /vctl
workers = 256
log-level = warning
log-format = json
log-file = /l
sandbox = try
lock-memory = try
drain-timeout = 0s
hello-timeout = 1s
vouch-timeout = 2s
vault-timeout = 3s
handshake-rate = 0.5
handshake-burst = 4
half-open-per-source = 5
half-open = 6
connect-timeout = 7s
idle-timeout = 8m
dead-peer = 9s
max-session = 10h
sessions-per-peer = 11
sessions-per-source = 12
sessions-per-service = 13
sessions = 14
end-of-stream = close
)" + kServer);
    CHECK(config.server_key == "/s");
    CHECK(config.client_key == "/c");
    CHECK(config.passphrase_file == "/p");
    CHECK(config.vault_socket == "/v");
    CHECK(config.control == "/ctl");
    CHECK(config.control_group == "adm");
    CHECK(config.status_group == "users");
    CHECK(config.vault_control == "/vctl");
    CHECK(config.workers == 256);
    CHECK(config.log_level == LogLevel::warning);
    CHECK(config.log_format == LogFormat::json);
    CHECK(config.log_file == "/l");
    CHECK(config.sandbox == Strictness::attempt);
    CHECK(config.lock_memory == Strictness::attempt);
    CHECK(config.timeouts.drain == 0s);
    CHECK(config.timeouts.hello == 1s);
    CHECK(config.timeouts.vouch == 2s);
    CHECK(config.timeouts.vault == 3s);
    CHECK(config.admission.handshake_rate == 0.5);
    CHECK(config.admission.handshake_burst == 4);
    CHECK(config.admission.half_open_per_source == 5);
    CHECK(config.admission.half_open == 6);
    const Service& service = config.services[0];
    CHECK(service.limits.connect_timeout == 7s);
    CHECK(service.limits.idle_timeout == 8min);
    CHECK(service.limits.dead_peer == 9s);
    CHECK(service.limits.max_session == 10h);
    CHECK(service.limits.sessions_per_peer == 11);
    CHECK(service.limits.sessions_per_source == 12);
    CHECK(service.limits.sessions_per_service == 13);
    CHECK(config.sessions == 14);
    CHECK(service.end_of_stream == EndOfStream::close);
}

TEST_CASE("a section overrides the default that the globals set, for itself alone", "[config]") {
    const Config config = good(kHead + "max-session = 2h\nidle-timeout = 1h\n" + kServer +
                               "max-session = none\nidle-timeout = 5m\n" + kClient);
    CHECK_FALSE(config.services[0].limits.max_session);
    CHECK(config.services[0].limits.idle_timeout == 5min);
    CHECK(config.services[1].limits.max_session == 2h);
    CHECK(config.services[1].limits.idle_timeout == 1h);
}

TEST_CASE("a peer defaults to the host of connect", "[config]") {
    CHECK(good(kHead + kClient).services[0].peer == "server.example");
    CHECK(good(kHead + kClient + "peer = other\n").services[0].peer == "other");
    CHECK(good(kHead + "[c]\nclient = yes\naccept = unix:/a\nconnect = curve_tun:[2001:db8::1]:1\n")
              .services[0]
              .peer == "2001:db8::1");
}

TEST_CASE("the order of a section's lines does not matter", "[config]") {
    CHECK(good(kHead + "[out]\naccept = unix:/a\nconnect = curve_tun:h:1\nclient = yes\n").services[0].side ==
          Side::client);
}

TEST_CASE("sections say which keys are needed", "[config]") {
    CHECK(good(kHead + kServer).needs_server_key());
    CHECK_FALSE(good(kHead + kServer).needs_client_key());
    CHECK_FALSE(good(kHead + kClient).needs_server_key());
    CHECK(good(kHead + kServer + kClient).needs_client_key());
}

TEST_CASE("CRLF, a byte order mark and a missing last line end are no problem", "[config]") {
    std::string text = "\xef\xbb\xbf" + kHead + kServer;
    for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 2) text.insert(at, "\r");
    text.resize(text.size() - 2);
    CHECK(good(text).services[0].allow.names == std::vector<std::string>{"a"});
}

TEST_CASE("each mistake is told with its line", "[config]") {
    struct Case {
        std::string text;
        std::string problem;
    };
    const std::string is_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const std::vector<Case> cases = {
        // Lines and keys.
        {"acept = x\n" + kHead + kServer, "1: unknown key \"acept\" (did you mean \"accept\"?)"},
        {kHead + "zzz = 1\n" + kServer, "2: unknown key \"zzz\""},
        {kHead + kServer + "cert = /x\n", "6: unknown key \"cert\""},
        {kHead + "secret: " + is_key + "\n" + kServer, "2: (a key) has no value"},
        {kHead + "server-key = " + is_key + "\n" + kServer, "2: server-key: (a key) is not a full path"},
        {kHead + "nonsense\n" + kServer, "2: want \"key = value\" or [section], not \"nonsense\""},
        {kHead + "workers =\n" + kServer, "2: \"workers\" has no value"},
        {kHead + "[web\n" + kServer, "2: the ] is missing: a section begins with a line [name]"},
        {kHead + std::string("a\0b\n", 4) + kServer, "2: NUL byte in the line"},
        {kHead + "; " + std::string(1'000'000, 'x') + "\n" + kServer, "2: line is longer than 65536 bytes"},
        {"accept = curve_tun:0.0.0.0:1\n" + kHead + kServer,
         "1: \"accept\" belongs into a [section] of its own"},
        {kHead + kServer + "workers = 2\n",
         "6: \"workers\" is a global key: it belongs above the first [section]"},
        {kHead + "known-hosts = /other\n" + kServer, "2: \"known-hosts\" stands twice: first in line 1"},
        {kHead + kServer + "allow = b\n", "6: \"allow\" stands twice: first in line 5"},
        // Sections.
        {kHead + kServer + kServer, "6: [web] stands twice: first in line 2"},
        {kHead + "[my web]\naccept = curve_tun:0.0.0.0:1\n" + kServer,
         "2: \"my web\" is not a section's name"},
        {kHead, "f: no [section]"},
        {"", "f: no [section]"},
        {kServer, "1: known-hosts = PATH is missing"},
        {kHead + "[web]\nconnect = 127.0.0.1:80\nallow = a\n", "2: [web] has no accept = ADDRESS"},
        {kHead + "[web]\naccept = curve_tun:0.0.0.0:4433\nallow = a\n", "2: [web] has no connect = ADDRESS"},
        {kHead + kServer + "peer = a\n", "6: peer belongs to a client end"},
        {kHead + kClient + "allow = a\n", "6: allow belongs to a server end"},
        {kHead + "server-key = /a/k\nclient-key = /a/./k\n" + kServer,
         "3: server-key and client-key (line 2) are one file"},
        {kHead + "client-key = /k1\nserver-key = /k1\n" + kServer,
         "3: server-key and client-key (line 2) are one file"},
        // Addresses.
        {kHead + "[web]\naccept = 0.0.0.0:4433\nconnect = 127.0.0.1:80\nallow = a\n",
         "3: accept: \"0.0.0.0:4433\": on the tunnel's side a bare HOST:PORT is kept for version 2, which "
         "this "
         "program does not speak yet: write curve_tun:0.0.0.0:4433, or curvecp:0.0.0.0:4433 over UDP (a "
         "client "
         "end needs client = yes)"},
        {kHead + "[out]\nclient = yes\naccept = 127.0.0.1:1\nconnect = server:4433\n",
         "5: connect: \"server:4433\": on the tunnel's side a bare HOST:PORT is kept for version 2, which "
         "this "
         "program does not speak yet: write curve_tun:server:4433, or curvecp:server:4433 over UDP"},
        {kHead + "[out]\nclient = yes\naccept = 127.0.0.1:1\nconnect = systemd:out\n",
         "5: connect: systemd: names a socket that listens"},
        {kHead + "[a]\naccept = curve_tun:systemd:x\nconnect = 127.0.0.1:1\n[b]\nclient = yes\naccept = "
                 "udp:systemd:x\nconnect = curvecp:host:1\n",
         "7: accept: udp:systemd:x is taken by [a]"},
        {kHead + "[web]\naccept = curve_tun:name:4433\nconnect = 127.0.0.1:80\nallow = a\n",
         "3: accept: accept needs an address"},
        {kHead + kServer + "[b]\nallow = a\nconnect = unix:/x\naccept = curve_tun:127.0.0.1:4433\n",
         "9: accept: curve_tun:127.0.0.1:4433 is taken by [web] in line 3"},
        {kHead + "[web]\naccept = curve_tun:0.0.0.0:1 # all\nconnect = 127.0.0.1:80\nallow = a\n",
         "3: accept: \"1 # all\" is not a port: want 1 to 65535; a comment behind a value begins with ;"},
        {kHead + "[web]\naccept = curve_tun:0.0.0.0:1\nconnect = 127.0.0.1:80 # it\nallow = a\n",
         "4: connect: \"80 # it\" is not a port: want 1 to 65535; a comment behind a value begins with ;"},
        // Values.
        {kHead + "workers = 4 # four\n" + kServer,
         "2: workers: \"4 # four\" is not a whole number from 0 to 256; a comment behind a value begins with "
         ";"},
        {kHead + "control = \"/run/c.sock\"\n" + kServer,
         "2: control: a value stands without quotes; remove them"},
        {kHead + "log-level = 'info'\n" + kServer, "2: log-level: a value stands without quotes"},
        {kHead + "[web]\naccept = \"curve_tun:0.0.0.0:1\"\nconnect = 127.0.0.1:80\nallow = a\n",
         "3: accept: a value stands without quotes"},
        {kHead + "workers = 257\n" + kServer, "2: workers: \"257\" is not a whole number from 0 to 256"},
        {kHead + "log-level = warn\n" + kServer,
         "2: log-level: \"warn\" is not trace, debug, info, warning or error (did you mean \"warning\"?)"},
        {kHead + "log-format = xml\n" + kServer, "2: log-format: \"xml\" is not text or json"},
        {kHead + "sandbox = maybe\n" + kServer, "2: sandbox: \"maybe\" is not require or try"},
        {kHead + "end-of-stream = fin\n" + kServer, "2: end-of-stream: \"fin\" is not message or close"},
        {kHead + "[out]\nclient = true\naccept = curve_tun:127.0.0.1:1\nconnect = a:1\nallow = b\n",
         "3: client: \"true\" is not yes or no"},
        {kHead + "idle-timeout = 5\n" + kServer, "2: idle-timeout: \"5\" has no unit: 5s?"},
        {kHead + "hello-timeout = 0s\n" + kServer, "2: hello-timeout: shorter than 1ms"},
        {kHead + "max-session = never\n" + kServer, "2: max-session: \"never\" is not a duration"},
        {kHead + "handshake-rate = 0\n" + kServer, "2: handshake-rate: \"0\" is not a number from"},
        {kHead + "vault = /run/v\n" + kServer, "2: vault: \"/run/v\": want unix:/path"},
        {kHead + "state-dir = state\n" + kServer, "2: state-dir: \"state\" is not a full path"},
        {kHead + kClient + "peer = *\n", "6: peer: \"*\" is not a name"},
        {kHead + "[web]\naccept = curve_tun:0.0.0.0:1\nconnect = 127.0.0.1:80\nallow = a b\n",
         "5: allow: \"a b\": part names with commas"},
    };
    for (const auto& [text, problem] : cases) {
        CAPTURE(text.substr(0, 200));
        const auto problems = problems_of(text);
        REQUIRE(problems.size() == 1);
        // "f:" stands for the file as a whole.
        const std::string expected = problem.starts_with("f:") ? "0" + problem.substr(1) : problem;
        CHECK(problems[0].substr(0, expected.size()) == expected);
    }
}

TEST_CASE("what is written down, and whether it must be", "[config]") {
    const auto plain = parse(kHead + kServer, "f");
    REQUIRE(plain);
    CHECK(plain->config.audit.empty());
    CHECK_FALSE(plain->config.audit_required);
    CHECK(plain->config.log_addresses == Addresses::full);
    const auto set =
        parse("audit = /a\naudit-required = yes\nlog-addresses = masked\n" + kHead + kServer, "f");
    REQUIRE(set);
    CHECK(set->config.audit == "/a");
    CHECK(set->config.audit_required);
    CHECK(set->config.log_addresses == Addresses::masked);
    CHECK_THAT(problems_of("audit-required = yes\n" + kHead + kServer),
               Equals(std::vector<std::string>{
                   "1: audit-required needs audit = PATH: without a file no session could ever begin"}));
    CHECK_THAT(problems_of("log-file = /x/a\naudit = /x/./a\n" + kHead + kServer),
               Equals(std::vector<std::string>{"2: audit and log-file are one file: name another one"}));
}

TEST_CASE("counters are served on this machine only", "[config]") {
    for (const std::string good :
         {"127.0.0.1:9", "[::1]:9", "localhost:9", "unix:/run/m.sock", "127.1.2.3:9"}) {
        CAPTURE(good);
        CHECK(problems_of("metrics = " + good + "\n" + kHead + kServer).empty());
    }
    for (const std::string bad : {"0.0.0.0:9", "[::]:9", "192.0.2.1:9", "udp:127.0.0.1:9"}) {
        CAPTURE(bad);
        CHECK(problems_of("metrics = " + bad + "\n" + kHead + kServer).size() == 1);
    }
}

TEST_CASE("a client end may listen nowhere, and a server end may not", "[config]") {
    const std::string head = "client-key = /a\nknown-hosts = /b\n";
    const std::string nowhere = "client = yes\naccept = none\nconnect = curve_tun:gate:1\n";
    const auto parsed = parse(head + "[a]\n" + nowhere + "[b]\n" + nowhere, "f");
    REQUIRE(parsed);  // two that listen nowhere do not keep each other out
    const Service& service = parsed->config.services.front();
    CHECK(service.accept.kind == Address::Kind::none);
    CHECK(service.accept.text() == "none");
    CHECK(service.peer == "gate");
    CHECK_FALSE(parse("server-key = /a\nknown-hosts = /b\n[a]\naccept = none\nconnect = 127.0.0.1:1\n", "f"));
    CHECK_FALSE(parse(head + "[a]\nclient = yes\naccept = 127.0.0.1:1\nconnect = none\n", "f"));
    CHECK_FALSE(parse(head + "[a]\nclient = yes\nconnect = curve_tun:gate:1\n", "f"));
    CHECK_FALSE(parse("metrics = none\n" + head + "[a]\n" + nowhere, "f"));
}

TEST_CASE("a PROXY header stands where there are clients to tell of, and a stream to begin", "[config]") {
    const std::string server = kHead + kServer;
    CHECK(problems_of(server + "proxy = v2\nproxy-from = 10.0.0.0/8, ::1\n").empty());
    CHECK(problems_of(server + "proxy = v1\n").size() == 1);
    CHECK(problems_of(server + "proxy-from = 10.0.0.1/8\n").size() == 1);
    CHECK(problems_of(server + "client = yes\nproxy = v2\n").size() >= 1);
}

TEST_CASE("all problems are told at once, from the top", "[config]") {
    const auto problems = problems_of("x = 1\nworkers = many\n[web]\naccept = 1\n[web]\nallow = *,a\n");
    REQUIRE(problems.size() == 7);
    const std::vector<std::string> lines = {"1", "2", "3", "3", "4", "5", "6"};
    for (std::size_t i = 0; i < lines.size(); ++i) {
        CAPTURE(problems[i]);
        CHECK(problems[i].substr(0, problems[i].find(':')) == lines[i]);
    }
}

TEST_CASE("a file that is no configuration gives a bounded list", "[config]") {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += "junk\n";
    CHECK(problems_of(text).size() == 201);
}

TEST_CASE("what is allowed but dangerous or useless is warned of", "[config]") {
    CHECK(warnings_of(kHead + kServer).empty());
    const std::string open = "[web]\naccept = curve_tun:0.0.0.0:1\nconnect = unix:/a\n";
    CHECK_THAT(warnings_of(kHead + open).at(0), Contains("2: nobody may use [web]"));
    CHECK_THAT(warnings_of(kHead + open + "allow = *\n").at(0),
               Contains("5: allow = * lets any key into [web]"));
    CHECK_THAT(warnings_of(kHead + "log-file = /x # y\n" + kServer).at(0),
               Contains("2: # begins a comment only at"));
}

TEST_CASE("a key's line can be asked for", "[config]") {
    const auto parsed = parse(kHead + kServer + kClient, "f.conf");
    REQUIRE(parsed);
    CHECK(parsed->line_of("", "known-hosts") == 1);
    CHECK(parsed->line_of("web", "allow") == 5);
    CHECK(parsed->line_of("out", "client") == 7);
    CHECK(parsed->line_of("out", "peer") == 0);
    CHECK(parsed->line_of("nowhere", "peer") == 0);
}

TEST_CASE("one global is found in a file that is broken elsewhere", "[config]") {
    const std::string text =
        "junk\nworkers = 9999\ncontrol = /run/c ; here\n[web\n[web]\nknown-hosts = /no\n";
    CHECK(find_global(text, "control") == "/run/c");
    CHECK(find_global(text, "workers") == "9999");
    CHECK_FALSE(find_global(text, "known-hosts"));
    CHECK_FALSE(find_global("", "control"));
}

TEST_CASE("damage gives problems or a configuration, never worse", "[config]") {
    const std::string whole = kHead + "server-key = /s\nworkers = 2\n" + kServer + kClient;
    std::mt19937 random(20'240'602);
    std::size_t accepted = 0;
    for (int round = 0; round < 5'000; ++round) {
        std::string text = whole;
        for (auto edits = 1 + random() % 4; edits-- > 0;) {
            const auto at = random() % text.size();
            if (random() % 2 == 0) {
                text[at] = static_cast<char>(random() % 256);
            } else {
                text.erase(at, random() % 8);
            }
        }
        const auto parsed = parse(text, "f.conf");
        if (!parsed) {
            CHECK_FALSE(parsed.error().empty());
            continue;
        }
        ++accepted;
        for (const Service& service : parsed->config.services) {
            CHECK(service.accept != Address{});
            CHECK_FALSE(service.connect.empty());
            CHECK((service.side == Side::server || !service.peers().empty()));
        }
    }
    CHECK(accepted > 100);
}

}  // namespace
}  // namespace curvegate::config
