#pragma once

#include "status/snapshot.hpp"

/// Invented snapshots for the tests of src/status.
namespace curvegate::status {

inline constexpr std::uint64_t kHuge = ~std::uint64_t{0};
inline constexpr WallTime kNoon{std::chrono::seconds(1'795'348'800)};  // 2026-11-22T12:00:00Z

/// A name that tries every trick: an escape sequence, quotes, a line's end, no UTF-8, writing from the right.
inline const std::string kHostile = "a\x1b[2J\"\\\n\xff\xe2\x80\xae}";

inline Snapshot small_snapshot() {
    using namespace std::chrono_literals;
    Snapshot out;
    out.version = "0.1.0";
    out.now = kNoon;
    out.started = kNoon - 100'000s;
    out.uptime = 100'000s + 250ms;
    out.generation = 7;
    out.loaded = kNoon - 3'600s;
    out.workers = 4;
    out.services = {{"web",
                     "server",
                     "curve_tun",
                     "curve_tun:0.0.0.0:4433",
                     "127.0.0.1:8080",
                     2,
                     1'204,
                     1'200,
                     1,
                     3,
                     {3'072, 1'024},
                     {},
                     {}},
                    {"dns",
                     "client",
                     "curvecp",
                     "udp:127.0.0.1:53",
                     "curvecp:server.example:4433",
                     0,
                     5,
                     5,
                     0,
                     0,
                     {0, 0},
                     {},
                     {}}};
    out.services[0].targets = {{"127.0.0.1:8080", true, {}}};
    out.services[1].targets = {{"curvecp:server.example:4433", false, 1'500ms}};
    out.peers = {
        {"laptop", "oQ1W3osxXeyCUVM7u8xDxuuAQGkB2/2MsAeiGBPFnRQ=", 2, 1'200, {3'072, 1'024}, kNoon - 90s},
        {"phone", "", 0, 0, {0, 0}, std::nullopt}};
    out.connections = {{17, "web", "laptop", "192.0.2.7:37410", kNoon - 5s, {10, 20}, {}},
                       {18, "web", "laptop", "[2001:db8::1]:4", kNoon - 1s, {30, 40}, {}}};
    out.connections[0].server_key = "TotUuIRvBVU/l+ymSN81wEqVV0Oo/OFs7SPR8c5LsGM=";
    out.server_keys = {{out.connections[0].server_key, 1, 1, {"laptop"}}};
    out.connections_left_out = 1;
    out.refusals = {{"client is not authorised", 2}, {"no hello in time", 1}};
    out.vault = {4, 4, 0};
    out.cookie_key_age = 42s;
    out.half_open = 6;
    out.services[0].limits = {9, 7, 8};
    out.services[1].limits = {4, 7, 8};
    out.half_open_limit = 16;
    out.half_open_per_source = 5;
    return out;
}

/// Names that nobody should have, numbers as great as they get, times out of the calendar.
inline Snapshot hostile_snapshot() {
    Snapshot out = small_snapshot();
    out.version = kHostile;
    out.now = WallTime::max();
    out.started = WallTime::min();
    out.uptime = Duration::max();
    out.generation = kHuge;
    out.reload_error = kHostile;
    out.workers = ~0U;
    out.services = {{kHostile,
                     kHostile,
                     kHostile,
                     kHostile,
                     kHostile,
                     kHuge,
                     kHuge,
                     kHuge,
                     kHuge,
                     kHuge,
                     {kHuge, kHuge},
                     {},
                     {}},
                    {"a\x1b[2J\"\\\n\xfe\xe2\x80\xae}", "", "", "", "", 1, 1, 1, 1, 1, {1, 1}, {}, {}}};
    out.services[0].targets = {{kHostile, true, Duration::max()}, {kHostile, false, Duration::min()}};
    out.peers = {{kHostile, kHostile, kHuge, kHuge, {kHuge, kHuge}, WallTime::min()},
                 {"", kHostile, 1, 1, {1, 1}, kNoon},
                 {"*", "", 1, 1, {1, 1}, std::nullopt}};
    out.connections = {{kHuge, kHostile, kHostile, kHostile, WallTime::max(), {kHuge, kHuge}, {}}};
    out.connections[0].server_key = kHostile;
    out.server_keys = {{kHostile, kHuge, kHuge, {kHostile}}, {kHostile, kHuge, kHuge, {kHostile, "a"}}};
    out.connections_left_out = kHuge;
    out.refusals = {{kHostile, kHuge}, {"a\x1b[2J\"\\\n\xfe\xe2\x80\xae}", 1}};
    out.vault = {0, kHuge, kHuge};
    out.cookie_key_age = Duration::min();
    out.half_open = kHuge;
    out.hellos_answered = out.hellos_dropped = kHuge;
    out.datagrams_in = out.datagrams_out = out.datagrams_dropped = kHuge;
    out.revocations = out.reloads = out.reload_failures = out.audit_failures = kHuge;
    return out;
}

}  // namespace curvegate::status
