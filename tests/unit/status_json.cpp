#include "status/json.hpp"
#include "status_samples.hpp"

#include <boost/json.hpp>
#include <catch2/catch.hpp>

namespace curvegate::status {
namespace {

TEST_CASE("the whole of a small snapshot as JSON", "[status]") {
    CHECK(
        render_json(small_snapshot()) ==
        R"({"ts":"2026-11-22T12:00:00Z","version":"0.1.0","started":"2026-11-21T08:13:20Z",)"
        R"("uptime_s":100000.250,"workers":4,"draining":false,)"
        R"("generation":7,"loaded":"2026-11-22T11:00:00Z","reload_error":null,"reloads":0,"reload_failures":0,)"
        R"("vault":{"connected":4,"workers":4,"lost":0},"cookie_key_age_s":42.000,)"
        R"("half_open":6,"limits":{"sessions":0,"half_open":16,"half_open_per_source":5},"hellos_answered":0,"hellos_dropped":0,)"
        R"("datagrams_in":0,"datagrams_out":0,"datagrams_dropped":0,"revocations":0,"audit_failures":0,)"
        R"("refusals":{"client is not authorised":2,"no hello in time":1},)"
        R"("services":[{"service":"web","side":"server","wire":"curve_tun","accept":"curve_tun:0.0.0.0:4433",)"
        R"("connect":"127.0.0.1:8080","sessions":2,"accepted":1204,"handshakes":1200,"refused":3,)"
        R"("truncations":1,"bytes_in":3072,"bytes_out":1024,)"
        R"("limits":{"sessions_per_service":9,"sessions_per_peer":7,"sessions_per_source":8},)"
        R"("targets":[{"target":"127.0.0.1:8080","up":true,"rests_s":0.000}]},)"
        R"({"service":"dns","side":"client","wire":"curvecp","accept":"udp:127.0.0.1:53",)"
        R"("connect":"curvecp:server.example:4433","sessions":0,"accepted":5,"handshakes":5,"refused":0,)"
        R"("truncations":0,"bytes_in":0,"bytes_out":0,"limits":{"sessions_per_service":4},)"
        R"("targets":[{"target":"curvecp:server.example:4433","up":false,"rests_s":1.500}]}],)"
        R"("peers":[{"peer":"laptop","peer_key":"oQ1W3osxXeyCUVM7u8xDxuuAQGkB2/2MsAeiGBPFnRQ=",)"
        R"("sessions":2,"handshakes":1200,"bytes_in":3072,"bytes_out":1024,)"
        R"("last_handshake":"2026-11-22T11:58:30Z"},)"
        R"({"peer":"phone","peer_key":"","sessions":0,"handshakes":0,"bytes_in":0,"bytes_out":0,)"
        R"("last_handshake":null}],)"
        R"("connections":[{"session":17,"service":"web","peer":"laptop","src":"192.0.2.7:37410",)"
        R"("since":"2026-11-22T11:59:55Z","bytes_in":10,"bytes_out":20,)"
        R"("server_key":"TotUuIRvBVU/l+ymSN81wEqVV0Oo/OFs7SPR8c5LsGM="},)"
        R"({"session":18,"service":"web","peer":"laptop","src":"[2001:db8::1]:4",)"
        R"("since":"2026-11-22T11:59:59Z","bytes_in":30,"bytes_out":40,"server_key":null}],)"
        R"("connections_left_out":1,)"
        R"("server_keys":[{"server_key":"TotUuIRvBVU/l+ymSN81wEqVV0Oo/OFs7SPR8c5LsGM=",)"
        R"("sessions":1,"peers":1,"names":["laptop"]}]})");
}

TEST_CASE("an empty snapshot is an object with every key", "[status]") {
    const auto empty = boost::json::parse(render_json({})).as_object();
    const auto full = boost::json::parse(render_json(small_snapshot())).as_object();
    for (const auto& [key, _] : full) CHECK(empty.contains(key));
    CHECK(empty.at("services").as_array().empty());
    CHECK(empty.at("refusals").as_object().empty());
}

TEST_CASE("hostile names make one line of valid JSON, huge numbers stay exact", "[status]") {
    const auto line = render_json(hostile_snapshot());
    for (const char c : line) CHECK((static_cast<unsigned char>(c) >= 0x20 && c != 0x7f));
    const auto parsed = boost::json::parse(line).as_object();
    const std::string name = "a\x1b[2J\"\\\n\xef\xbf\xbd\xe2\x80\xae}";
    const auto& service = parsed.at("services").as_array()[0].as_object();
    CHECK(service.at("service").as_string() == name);
    CHECK(service.at("bytes_in").as_uint64() == kHuge);
    CHECK(parsed.at("reload_error").as_string() == name);
    CHECK(parsed.at("connections_left_out").as_uint64() == kHuge);
    CHECK(parsed.at("ts").as_string() == "9999-12-31T23:59:59Z");
    CHECK(parsed.at("cookie_key_age_s").as_double() == 0);
}

}  // namespace
}  // namespace curvegate::status
