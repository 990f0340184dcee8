#include "config/keys.hpp"
#include "daemon/parent/difference.hpp"

#include <catch2/catch.hpp>

#include <map>

/// Every key of a configuration: a reload applies it, or says what it takes.
namespace curvegate::daemon::parent {
namespace {

const std::string kServer =
    "[web]\naccept = curve_tun:127.0.0.1:1000\nconnect = 127.0.0.1:9\nallow = alice\n";
const std::string kUdpServer =
    "[web]\naccept = curvecp:127.0.0.1:1000\nconnect = 127.0.0.1:9\nallow = alice\n";
const std::string kUdpClient =
    "[web]\nclient = yes\naccept = udp:127.0.0.1:1000\nconnect = curvecp:127.0.0.1:9\npeer = gate\n";

enum class Reload {
    applies,   ///< "~ KEY", or for a section's key "~ service NAME"
    restarts,  ///< "! KEY: ..."
};
struct Sample {
    std::string before;
    std::string after;
    Reload reload;
    std::string section = kServer;  ///< in which the key can mean something
};

const std::map<std::string, Sample, std::less<>>& samples() {
    using enum Reload;
    static const std::map<std::string, Sample, std::less<>> all = {
        {"server-key", {"/a", "/b", restarts}},
        {"client-key", {"/a", "/b", restarts}},
        {"known-hosts", {"/a", "/b", restarts}},
        {"state-dir", {"/a", "/b", restarts}},
        {"passphrase-file", {"/a", "/b", restarts}},
        {"vault", {"unix:/a", "unix:/b", restarts}},
        {"control", {"/a", "/b", restarts}},
        {"control-group", {"a", "b", restarts}},
        {"status-group", {"a", "b", restarts}},
        {"metrics", {"unix:/a", "127.0.0.1:9", restarts}},
        {"vault-control", {"/a", "/b", restarts}},
        {"workers", {"1", "2", restarts}},
        {"log-level", {"info", "debug", restarts}},
        {"log-format", {"text", "json", restarts}},
        {"log-file", {"/a", "/b", restarts}},
        {"log-addresses", {"full", "masked", restarts}},
        {"audit", {"/a", "/b", applies}},
        {"audit-required", {"no", "yes", applies}},
        {"sandbox", {"require", "try", restarts}},
        {"lock-memory", {"require", "try", restarts}},
        {"drain-timeout", {"1s", "2s", applies}},
        {"hello-timeout", {"1s", "2s", restarts}},
        {"vouch-timeout", {"1s", "2s", restarts}},
        {"vault-timeout", {"1s", "2s", restarts}},
        {"handshake-rate", {"1", "2", restarts}},
        {"handshake-burst", {"1", "2", restarts}},
        {"half-open-per-source", {"1", "2", restarts}},
        {"half-open", {"1", "2", restarts}},
        {"sessions", {"1", "2", applies}},
        {"connect-timeout", {"1s", "2s", applies}},
        {"idle-timeout", {"1s", "2s", applies}},
        {"dead-peer", {"1s", "2s", applies}},
        {"max-session", {"none", "2s", applies}},
        {"sessions-per-peer", {"1", "2", applies}},
        {"sessions-per-source", {"1", "2", applies}},
        {"sessions-per-service", {"1", "2", applies}},
        {"end-of-stream", {"message", "close", applies}},
        {"server-extension", {std::string(32, '1'), std::string(32, '2'), applies, kUdpServer}},
        {"client-extension", {std::string(32, '1'), std::string(32, '2'), applies, kUdpClient}},
        {"flow-idle", {"1s", "2s", applies, kUdpClient}},
        {"flows", {"1", "2", applies, kUdpClient}},
        // No address is good on both ends.
        {"client",
         {"no\naccept = curve_tun:127.0.0.1:1000\nconnect = 127.0.0.1:9",
          "yes\naccept = 127.0.0.1:1000\nconnect = curve_tun:127.0.0.1:9", applies, "[web]\n"}},
        {"accept",
         {"curve_tun:127.0.0.1:1", "curve_tun:127.0.0.1:2", applies, "[web]\nconnect = 127.0.0.1:9\n"}},
        {"connect", {"127.0.0.1:1", "127.0.0.1:2", applies, "[web]\naccept = curve_tun:127.0.0.1:1000\n"}},
        {"failover", {"prio", "rr", applies}},
        {"peer",
         {"a", "b", applies, "[web]\nclient = yes\naccept = 127.0.0.1:1000\nconnect = curve_tun:c:9\n"}},
        {"allow", {"a", "b", applies, "[web]\naccept = curve_tun:127.0.0.1:1000\nconnect = 127.0.0.1:9\n"}},
        {"server-name", {"a", "b", applies, kUdpServer}},
        {"proxy", {"none", "v2", applies}},
        {"proxy-from", {"10.0.0.1", "10.0.0.2", applies}},
    };
    return all;
}

/// A configuration in which `key` has this value, among the globals or in the section.
Loaded with(const config::Key& key, const std::string& value, const Sample& sample) {
    const bool global = key.where == config::Where::global;
    std::string text = global ? std::string(key.name) + " = " + value + "\n" : "";
    if (key.name != "known-hosts") text += "known-hosts = /k\n";
    if (key.name == "audit-required") text += "audit = /a\n";
    text += sample.section;
    if (!global) text += std::string(key.name) + " = " + value + "\n";
    auto parsed = config::parse(text, "t.conf");
    INFO(text);
    REQUIRE(parsed.has_value());
    return Loaded{std::make_shared<const config::Config>(std::move(parsed->config)),
                  std::make_shared<const registry::Registry>(std::vector<registry::Entry>()),
                  {},
                  {},
                  {},
                  {}};
}

TEST_CASE("of every key a reload says that it is different, and what takes a restart", "[daemon][reload]") {
    for (const config::Key& key : config::all_keys()) {
        if (key.name == "include") continue;  // what it brings are sections
        INFO(key.name);
        const auto sample = samples().find(key.name);
        REQUIRE(sample != samples().end());
        const Loaded before = with(key, sample->second.before, sample->second);
        const Loaded after = with(key, sample->second.after, sample->second);
        CHECK(difference(before, before).empty());
        const auto told = difference(before, after);
        REQUIRE(told.size() == 1);
        const std::string name(key.name);
        if (sample->second.reload == Reload::restarts) {
            CHECK(told.front().starts_with("! " + name + ": "));
        } else {
            CHECK(told.front() == (key.where == config::Where::global ? "~ " + name : "~ service web"));
        }
    }
}

}  // namespace
}  // namespace curvegate::daemon::parent
