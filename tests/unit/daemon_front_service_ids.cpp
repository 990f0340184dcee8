#include "daemon/front/service_ids.hpp"

#include <catch2/catch.hpp>

/// Which section goes on which of the old configuration: its sessions, counts and limits go with the number.
namespace curvegate::daemon::front {
namespace {

std::string server(const std::string& name, const std::string& accept, const std::string& more = "") {
    return "[" + name + "]\naccept = " + accept + "\nconnect = 127.0.0.1:9\nallow = alice\n" + more;
}
std::string client(const std::string& name, const std::string& accept) {
    return "[" + name + "]\nclient = yes\naccept = " + accept +
           "\nconnect = curve_tun:192.0.2.1:9\npeer = gate\n";
}
config::Config parsed(const std::string& sections) {
    auto out = config::parse("known-hosts = /k\nserver-key = /s\nclient-key = /c\n" + sections, "t.conf");
    REQUIRE(out.has_value());
    return out->config;
}

struct Reload {
    ServiceIds ids;
    explicit Reload(const std::string& before) { CHECK(ids.follow(parsed(before)).empty()); }
    std::vector<ServiceIds::Renamed> to(const std::string& after) { return ids.follow(parsed(after)); }
};

const std::string kDoor = "curve_tun:127.0.0.1:1000";
const std::string kOther = "curve_tun:127.0.0.1:2000";

TEST_CASE("a section keeps its number as long as its name stays", "[daemon][services]") {
    Reload reload(server("a", kDoor) + server("b", kOther));
    const auto a = reload.ids.of("a");
    const auto b = reload.ids.of("b");
    CHECK(a != b);
    SECTION("whatever it says and wherever it stands") {
        CHECK(reload.to(server("b", kOther, "idle-timeout = 5s\n") + server("a", kDoor)).empty());
    }
    SECTION("when it moves, and when two change places") {
        CHECK(reload.to(server("a", kOther) + server("b", kDoor)).empty());
    }
    SECTION("when it moves to another wire") {
        CHECK(reload.to(server("a", "curvecp:127.0.0.1:1000") + server("b", kOther)).empty());
    }
    CHECK(reload.ids.of("a") == a);
    CHECK(reload.ids.of("b") == b);
}

TEST_CASE("a renamed section keeps its number", "[daemon][services]") {
    using Names = std::vector<ServiceIds::Renamed>;
    SECTION("of a server of curve_tun") {
        Reload reload(server("a", kDoor));
        const auto a = reload.ids.of("a");
        CHECK(reload.to(server("c", kDoor)) == Names{{"a", "c"}});
        CHECK(reload.ids.of("c") == a);
    }
    SECTION("of a client end") {
        Reload reload(client("a", "127.0.0.1:1000"));
        const auto a = reload.ids.of("a");
        CHECK(reload.to(client("c", "127.0.0.1:1000")) == Names{{"a", "c"}});
        CHECK(reload.ids.of("c") == a);
    }
    SECTION("of a server's UDP port, if clients may ask for it as before") {
        const std::string udp = "curvecp:127.0.0.1:1000";
        Reload reload(server("a", udp, "server-name = web\n") + server("b", udp));
        const auto a = reload.ids.of("a");
        const auto b = reload.ids.of("b");
        CHECK(reload.to(server("d", udp) + server("c", udp, "server-name = web\n")) == Names{{"a", "c"}});
        CHECK(reload.ids.of("c") == a);
        CHECK(reload.ids.of("d") != b);  // whoever asks for b is turned away now
    }
}

TEST_CASE("no section takes over what is another's", "[daemon][services]") {
    SECTION("one that stood before, at the door of one that is gone") {
        Reload reload(server("a", kDoor) + server("b", kOther));
        const auto b = reload.ids.of("b");
        CHECK(reload.to(server("b", kDoor)).empty());
        CHECK(reload.ids.of("b") == b);
    }
    SECTION("a new one at a new door") {
        Reload reload(server("a", kDoor));
        const auto a = reload.ids.of("a");
        CHECK(reload.to(server("c", kOther)).empty());
        CHECK(reload.ids.of("c") != a);
    }
    SECTION("one that is gone and comes back") {
        Reload reload(server("a", kDoor));
        const auto a = reload.ids.of("a");
        CHECK(reload.to(server("b", kOther)).empty());
        CHECK(reload.to(server("a", kDoor)).empty());
        CHECK(reload.ids.of("a") != a);
    }
    SECTION("the other end of a tunnel") {
        Reload reload(server("a", kDoor));
        const auto a = reload.ids.of("a");
        CHECK(reload.to(client("a", "127.0.0.1:1000")).empty());
        CHECK(reload.ids.of("a") != a);
        CHECK(reload.to(server("a", kDoor)).empty());
        CHECK(reload.ids.of("a") != a);
        CHECK(reload.to(client("c", "127.0.0.1:1000")).empty());
    }
    SECTION("where nobody listens there is nothing to take over") {
        Reload reload(client("a", "none"));
        CHECK(reload.to(client("c", "none")).empty());
    }
}

}  // namespace
}  // namespace curvegate::daemon::front
