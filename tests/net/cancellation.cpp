#include "handshake/errors.hpp"
#include "support/app.hpp"
#include "support/loop.hpp"
#include "support/secrets.hpp"
#include "tunnel/curve_tun/dial.hpp"
#include "tunnel/curvecp/dial.hpp"

#include <catch2/catch.hpp>

#include <sys/socket.h>

#include <filesystem>

/// A dial that nobody wants any more: nothing of it may stay open, and whoever waits for it is told.
namespace curvegate::io {
namespace {

using namespace std::chrono_literals;

std::ptrdiff_t open_descriptors() {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

/// Never answers, as DNS that is silent.
struct Mute final : Resolver {
    std::vector<Handler> asked;
    void resolve(asio::io_context&, const std::string&, Handler handler) override {
        asked.push_back(std::move(handler));
    }
};

/// One dial of each kind, and what became of it.
struct Dialled {
    asio::io_context context;
    Mute names;
    vault_client::VaultClient vault{context, 1s, vault_client::VaultClient::Detached::wait};
    test::SeededRandom random{1};
    tunnel::HandshakeTools tools{&vault, nullptr, &test::pool(), &random, nullptr, {}};
    CancellationPtr cancellation = std::make_shared<Cancellation>();
    const crypto::PublicKey server = *public_key_of(test::secret_number<crypto::EphemeralSecret>(9));
    std::optional<Error> told;

    Dialled() { (void)open_descriptors(); }

    template <class Value>
    auto note() {
        return [this](Result<Value> result) {
            REQUIRE_FALSE(told);
            REQUIRE_FALSE(result);
            told = result.error();
        };
    }
    void dial_plain(const Target& target) {
        dial(context, names, target, now() + 1h, note<Stream>(), cancellation);
    }
    void dial_tcp(const Target& target) {
        tunnel::curve_tun::dial_tunnel(context, names, tools, {target, "server", {server}}, now() + 1h,
                                       note<tunnel::curve_tun::Established>(), cancellation);
    }
    void dial_udp(const Target& target) {
        tunnel::curvecp::dial_stream(context, names, tools, {target, "server", {server}, {}, {}, 60s, {}},
                                     now() + 1h, note<tunnel::curvecp::DialedStream>(), cancellation);
    }
    [[nodiscard]] static Instant now() { return std::chrono::steady_clock::now(); }

    void cancel() {
        cancellation->cancel();
        CHECK_FALSE(told);  // never from within
        test::run_ready(context);
        REQUIRE(told);
        CHECK(told->is(DialErrc::stopped));
    }
};

/// A port of loopback that takes no further connection and refuses none.
struct FullPort {
    tcp::acceptor acceptor;
    std::vector<tcp::socket> waiting;
    explicit FullPort(asio::io_context& context) : acceptor(context, {asio::ip::address_v4::loopback(), 0}) {
        acceptor.listen(0);
        for (int i = 0; i < 4; ++i) {
            auto& socket = waiting.emplace_back(context);
            socket.open(tcp::v4());
            socket.non_blocking(true);
            const auto where = acceptor.local_endpoint();  // Asio's own connect() would wait
            (void)::connect(socket.native_handle(), where.data(), static_cast<socklen_t>(where.size()));
        }
    }
    [[nodiscard]] Target target() const { return {"127.0.0.1", acceptor.local_endpoint().port(), {}}; }
};

TEST_CASE("a dial that is cancelled while a name is looked up is told, and keeps nothing", "[net][cancel]") {
    Dialled one;
    const auto kind = GENERATE(0, 1, 2);
    const auto before = open_descriptors();
    const Target target{"slow.example", 1, {}};
    if (kind == 0) one.dial_plain(target);
    if (kind == 1) one.dial_tcp(target);
    if (kind == 2) one.dial_udp(target);
    test::run_ready(one.context);
    REQUIRE(one.names.asked.size() == 1);
    one.cancel();
    one.names.asked.front()(std::vector<ScopedIp>{test::kLoopback});  // too late
    test::run_ready(one.context);
    CHECK(open_descriptors() == before);
}

TEST_CASE("a connection under way is closed when its dial is cancelled", "[net][cancel]") {
    Dialled one;
    const FullPort port(one.context);
    const auto before = open_descriptors();
    if (GENERATE(true, false)) {
        one.dial_plain(port.target());
    } else {
        one.dial_tcp(port.target());
    }
    test::run_ready(one.context);
    CHECK(open_descriptors() == before + 1);
    one.cancellation->cancel();
    CHECK(open_descriptors() == before);  // at once
    one.cancel();
}

TEST_CASE("a handshake under way is ended when its dial is cancelled", "[net][cancel]") {
    Dialled one;
    tcp::acceptor acceptor(one.context, {asio::ip::address_v4::loopback(), 0});
    one.dial_tcp({"127.0.0.1", acceptor.local_endpoint().port(), {}});
    std::optional<test::Local> silent;  // a server that reads, and says nothing
    acceptor.non_blocking(true);
    REQUIRE(test::run_until(one.context, [&] {
        error_code error;
        if (!silent) {
            if (auto socket = acceptor.accept(error); !error) silent.emplace(Stream(std::move(socket)));
        }
        if (silent) silent->stream.non_blocking(true), silent->read();
        return silent && !silent->got.empty();
    }));
    one.cancel();
    REQUIRE(test::run_until(one.context, [&] {
        silent->read();
        return silent->ended || silent->broken;
    }));
}

TEST_CASE("a socket that says Hello is closed when its dial is cancelled", "[net][cancel]") {
    Dialled one;
    test::App silent(one.context);
    const auto before = open_descriptors();
    one.dial_udp({"127.0.0.1", silent.port(), {}});
    REQUIRE(test::run_until(one.context, [&] {
        silent.read();
        return !silent.got.empty();
    }));
    CHECK(open_descriptors() == before + 1);
    one.cancel();
    CHECK(open_descriptors() == before);
}

TEST_CASE("what is cancelled before it begins opens nothing", "[net][cancel]") {
    Dialled one;
    test::App silent(one.context);
    const auto before = open_descriptors();
    one.cancellation->cancel();
    const auto kind = GENERATE(0, 1, 2);
    const Target target{"127.0.0.1", silent.port(), {}};
    if (kind == 0) one.dial_plain(target);
    if (kind == 1) one.dial_tcp(target);
    if (kind == 2) one.dial_udp(target);
    one.cancel();
    CHECK(open_descriptors() == before);
}

}  // namespace
}  // namespace curvegate::io
