#include "daemon/front/arrival.hpp"

#include "config/include.hpp"
#include "os/file.hpp"

#include <fcntl.h>

#include <catch2/catch.hpp>

/// A configuration comes from the parent, a descriptor a message.
namespace curvegate::daemon::front {
namespace {

std::string config_text(const std::string& doors) {
    std::string out = "known-hosts = /k\nserver-key = /s\n";
    for (const char door : doors) {
        out += std::string("[") + door + "]\naccept = curve_tun:127.0.0.1:" + std::to_string(1000 + door) +
               "\nconnect = 127.0.0.1:9\nallow = alice\n";
    }
    return out;
}
os::UniqueFd memory(const std::string& text) {
    auto out = os::memory_file(as_bytes(text));
    REQUIRE(out.has_value());
    return std::move(*out);
}
os::UniqueFd packed(const std::string& doors) {
    return memory(config::pack({{"/c", config_text(doors)}}));
}
os::UniqueFd socket() {
    return os::UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC));
}
config::Config config_with(const std::string& doors) {
    auto out = config::parse(config_text(doors), "/c");
    REQUIRE(out.has_value());
    return out->config;
}

TEST_CASE("a configuration is parsed from what the parent sent", "[daemon][arrival]") {
    Arrival arrival(packed("ab"));
    arrival.known_hosts(memory("# nobody\n"));
    CHECK(arrival.is_whole());
    const auto loaded = arrival.parse();
    REQUIRE(loaded.has_value());
    CHECK(loaded->config->services.size() == 2);
    CHECK(loaded->registry->entries().empty());
}

TEST_CASE("a configuration without one of its descriptors is not whole", "[daemon][arrival]") {
    Arrival no_config{os::UniqueFd()};
    CHECK_FALSE(no_config.is_whole());
    Arrival no_peers(packed("a"));
    no_peers.known_hosts({});
    CHECK_FALSE(no_peers.is_whole());
    Arrival no_socket(packed("a"));
    no_socket.known_hosts(memory(""));
    no_socket.socket(0, socket());
    CHECK(no_socket.is_whole());
    no_socket.socket(0, {});
    CHECK_FALSE(no_socket.is_whole());
}

TEST_CASE("a text that is no configuration is an error", "[daemon][arrival]") {
    Arrival not_packed(memory("x"));
    not_packed.known_hosts(memory(""));
    CHECK(not_packed.is_whole());
    CHECK_FALSE(not_packed.parse().has_value());
    CHECK_FALSE(Arrival().parse().has_value());
}

TEST_CASE("sockets are taken for doors that were not open before, and for no others", "[daemon][arrival]") {
    Arrival arrival(packed("abc"));
    arrival.known_hosts(memory(""));
    for (std::uint16_t door = 0; door < 4; ++door) {  // there is no fourth
        arrival.socket(door, socket());
        arrival.socket(door, socket());
    }
    const auto next = config_with("abc");
    const auto opened = arrival.sockets_for(next, config_with("b"));
    REQUIRE(opened.size() == 2);
    CHECK(opened.at(door_key(next.services[0])).size() == 2);
    CHECK(opened.at(door_key(next.services[2])).size() == 2);
}

}  // namespace
}  // namespace curvegate::daemon::front
