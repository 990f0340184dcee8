#include "stream/chunks.hpp"
#include "support/loop.hpp"
#include "tunnel/curvecp/tunnel.hpp"

#include <catch2/catch.hpp>

/// A tunnel that its user has given back: how long it stays, what it keeps, and whom it still answers.
namespace curvegate::tunnel::curvecp {
namespace {

using namespace std::chrono_literals;
using test::pattern;

/// Its packets are bare messages, and go to another one in memory.
class Loop final : public CurvecpTunnel {
  public:
    explicit Loop(asio::io_context& context) : CurvecpTunnel(context, {}, 60s) {}

    std::weak_ptr<Loop> peer;  ///< empty: what is sent is lost
    std::size_t sent = 0;

    void take(Bytes message) {
        const auto copy = test::copy_of(message);
        if (deliver(wire::curvecp::parse_message(copy), std::chrono::steady_clock::now())) after_batch();
    }

  private:
    std::optional<Envelope> envelope() override { return Envelope{0, wire::curvecp::kMaxMessage}; }
    Result<> seal(MutableBytes) override { return {}; }
    std::size_t transmit(Bytes train, std::size_t segment) override {
        for (Bytes rest = train; !rest.empty(); rest = rest.subspan(std::min(segment, rest.size()))) {
            ++sent;
            asio::post(context_,
                       [to = peer, message = test::copy_of(rest.first(std::min(segment, rest.size())))] {
                           if (const auto other = to.lock()) other->take(message);
                       });
        }
        return train.size();
    }
    [[nodiscard]] Deadline own_deadline() const override { return std::nullopt; }
    void on_own_deadline(Instant) override {}
    void on_over() override {}
};

/// Our end, as its user holds it, and the other.
struct Two {
    asio::io_context context;
    std::shared_ptr<Loop> far = std::make_shared<Loop>(context);
    std::weak_ptr<Loop> near;
    tunnel::TunnelHandle handle;
    std::weak_ptr<const int> place;
    bool delivered = false;

    Two() {
        auto made = std::make_shared<Loop>(context);
        near = made;
        made->peer = far;
        far->peer = made;
        auto held = std::make_shared<const int>();
        place = held;
        made->keep_alive = held;
        made->on_delivered = [this] { delivered = true; };
        handle = made->hand_over();
        write(1);  // both know each other from here on
        REQUIRE(until([&] { return handle->stream().acknowledged() == 1; }));
    }
    void write(std::size_t size) const {
        while (size > 0) {
            const auto room = handle->stream().prepare();
            if (room.empty()) break;
            const auto part = std::min(size, room.size());
            handle->stream().commit(part);
            size -= part;
        }
        handle->flush();
    }
    /// As a user goes who held the handle, which owns the tunnel too.
    void give_back() { handle = tunnel::TunnelHandle(); }
    void vanish() {
        near.lock()->peer.reset();
        far.reset();
    }
    [[nodiscard]] bool until(const std::function<bool()>& holds) { return test::run_until(context, holds); }
    [[nodiscard]] bool gone() const { return near.expired(); }
};

TEST_CASE("a tunnel holds its place until it is gone, and not only until it has nothing to deliver",
          "[net][curvecp_tunnel]") {
    Two two;
    two.handle->stream().finish();
    two.give_back();
    two.far->stream().finish();
    two.far->flush();
    REQUIRE(two.until([&] { return two.delivered; }));
    CHECK_FALSE(two.gone());  // TIME-WAIT
    CHECK_FALSE(two.place.expired());
    REQUIRE(two.until([&] { return two.gone(); }));
    CHECK(two.place.expired());
}

TEST_CASE("of a session whose peer fails and leaves nothing is kept that was not sent, and the rest not long",
          "[net][curvecp_tunnel]") {
    Two two;
    two.vanish();  // so that nothing is acknowledged any more
    two.write(250'000);
    CHECK(two.handle->stream().statistics().memory > 3 * stream::ChunkSource::kChunk);
    wire::curvecp::Message failure;
    failure.id = {77};
    failure.has_block = true;
    failure.end = wire::curvecp::StreamEnd::failure;
    test::Buffer bytes(wire::curvecp::kMessageHeader);
    serialise(failure, bytes);
    two.near.lock()->take(bytes);
    REQUIRE(two.handle->stream().incoming() == stream::Incoming::failed);
    two.give_back();
    REQUIRE_FALSE(two.gone());
    CHECK(two.near.lock()->stream().statistics().memory < 2 * stream::ChunkSource::kChunk);
    CHECK_FALSE(two.place.expired());
    REQUIRE(two.until([&] { return two.gone(); }));  // in 3 s; it was 60 s, and 10 minutes for a foreign peer
    CHECK(two.place.expired());
}

TEST_CASE("nobody waits long for the acknowledgment of an end alone", "[net][curvecp_tunnel]") {
    Two two;
    two.vanish();
    const bool fails = GENERATE(true, false);
    if (!fails) two.handle->stream().finish();
    two.give_back();
    REQUIRE(two.until([&] { return two.delivered; }));
    CHECK_FALSE(two.gone());  // it is said again all the same
    CHECK_FALSE(two.place.expired());
}

TEST_CASE("bytes of the user are waited for", "[net][curvecp_tunnel]") {
    Two two;
    two.vanish();
    two.write(1'000);
    two.handle->stream().finish();
    two.give_back();
    const auto two_moments = std::chrono::steady_clock::now() + 2'500ms;
    REQUIRE(two.until([&] { return std::chrono::steady_clock::now() > two_moments; }));
    CHECK_FALSE(two.delivered);
}

TEST_CASE("what comes when nobody reads any more is acknowledged and not kept", "[net][curvecp_tunnel]") {
    Two two;
    two.handle->stream().finish();
    two.give_back();
    auto& far = two.far->stream();
    std::size_t written = 0;
    while (written < 200'000) {
        const auto room = far.prepare();
        far.commit(room.size());
        written += room.size();
        two.far->flush();
        REQUIRE(two.until([&] { return far.acknowledged() == written || two.gone(); }));
        const auto near = two.near.lock();
        if (!near) break;  // TIME-WAIT is over: a very slow machine
        CHECK(near->stream().statistics().memory < stream::ChunkSource::kChunk);
    }
}

TEST_CASE("a tunnel that is dropped is gone at once and says nothing more", "[net][curvecp_tunnel]") {
    Two two;
    const bool released = GENERATE(true, false);
    const auto tunnel = two.near.lock();
    if (released) two.give_back();
    const auto sent = tunnel->sent;
    tunnel->drop();
    two.far->stream().want_ping();
    two.far->flush();
    test::run_ready(two.context);
    CHECK(tunnel->sent == sent);
    CHECK(tunnel->ended() == tunnel::End::stopped);
    two.give_back();
    test::run_ready(two.context);
    CHECK(tunnel.use_count() == 1);
}

}  // namespace
}  // namespace curvegate::tunnel::curvecp
