#pragma once

#include "stream/stream.hpp"
#include "support/bytes.hpp"
#include "support/secrets.hpp"

#include <functional>
#include <map>
#include <memory>
#include <queue>

/// Ends of CurveCP's stream on a simulated link under virtual time: bottleneck, delay, loss, duplicates,
/// another order, outages. Everything follows from a seed.
namespace curvegate::test {

using namespace std::chrono_literals;

inline const Instant kEpoch = Instant(std::chrono::hours(1));

/// What a byte of a stream is, by its position.
class Content {
  public:
    explicit Content(std::uint64_t seed) {
        SeededRandom random(seed);
        random.fill(bytes_);
    }
    void fill(std::uint64_t position, MutableBytes out) const {
        for (std::size_t done = 0; done < out.size();) {
            const std::size_t at = (position + done) % kPeriod;
            const std::size_t size = std::min(out.size() - done, kPeriod - at);
            std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(at), size,
                        out.begin() + static_cast<std::ptrdiff_t>(done));
            done += size;
        }
    }
    [[nodiscard]] bool matches(std::uint64_t position, Bytes bytes) const {
        Buffer expected(bytes.size());
        fill(position, expected);
        return same(expected, bytes);
    }

  private:
    static constexpr std::size_t kPeriod = 65'521;  // a prime: no power of two repeats
    Buffer bytes_ = Buffer(kPeriod);
};

/// What writes to and reads from one end of a stream.
class Peer {
  public:
    virtual ~Peer() = default;
    virtual void receive(Bytes message, Instant now) = 0;
    /// The next message, empty: none now.
    virtual Bytes next(Instant now) = 0;
    [[nodiscard]] virtual Deadline deadline() const = 0;
    /// Our part is done: all sent and acknowledged, all received.
    [[nodiscard]] virtual bool finished() const = 0;
};

/// An end of our own with an application that writes `total` bytes, then its end, and reads all that comes.
class OwnEnd : public Peer {
  public:
    OwnEnd(const stream::Options& options, std::uint64_t to_send, std::uint64_t own_seed,
           std::uint64_t peer_seed, Instant now = kEpoch)
        : total(to_send), stream(options, now), own_(own_seed), peer_(peer_seed) {}

    std::uint64_t total;
    std::uint64_t read = 0;
    bool reads = true;   ///< false: the application does not take what came
    bool intact = true;  ///< all that was read is what was written
    bool finishes = true;
    std::size_t most_packet = 1'088;
    std::optional<Error> refused;
    stream::Stream stream;
    std::uint64_t messages = 0;
    Instant ended_at;

    void receive(Bytes bytes, Instant now) override {
        const auto message = wire::curvecp::parse_message(bytes);
        const auto ok = message ? stream.receive(*message, now) : std::unexpected(message.error());
        if (!ok && !refused) refused = ok.error();
        take();
        if (finished() && ended_at == Instant()) ended_at = now;
    }
    Bytes next(Instant now) override {
        write();
        take();
        const std::size_t size = stream.next_message(MutableBytes(out_).first(most_packet), now);
        messages += size != 0 ? 1 : 0;
        return Bytes(out_).first(size);
    }
    [[nodiscard]] Deadline deadline() const override { return stream.next_deadline(); }
    [[nodiscard]] bool finished() const override { return stream.done(); }

  private:
    void write() {
        while (written_ < total) {
            const auto room = stream.prepare();
            if (room.empty()) return;
            const auto part = room.first(std::min<std::uint64_t>(room.size(), total - written_));
            own_.fill(written_, part);
            stream.commit(part.size());
            written_ += part.size();
        }
        if (finishes) stream.finish();
    }
    void take() {
        while (reads) {
            const auto part = stream.readable();
            if (part.empty()) return;
            intact = intact && peer_.matches(read, part);
            read += part.size();
            stream.consume(part.size());
        }
    }

    Content own_;
    Content peer_;
    std::uint64_t written_ = 0;
    ByteArray<1'088> out_{};
};

/// One direction of a link.
struct Way {
    double rate = 0;         ///< bytes a second; 0: no bottleneck
    std::size_t buffer = 0;  ///< bytes that wait at the bottleneck
    Duration delay{};
    double loss = 0;
    double reordered = 0;  ///< delayed by up to another delay (or 1 ms)
    double doubled = 0;
    bool overtaken_is_lost = false;  ///< and so is a double: the reference's packet layer
    Instant outage_begin;
    Instant outage_end;

    Instant free_at;            ///< of the bottleneck
    std::uint64_t carried = 0;  ///< bytes
    std::uint64_t dropped = 0;  ///< messages
};

/// Flows of two peers each which share a way up and a way down.
class Link {
  public:
    Link(std::uint64_t seed, const Way& up, const Way& down) : rng_(seed), ways_{up, down} {}

    void add(Peer& client, Peer& server) { ends_.push_back({&client, &server}); }

    Instant now = kEpoch;
    /// Runs until `stop` says so, nothing happens any more, or `until` has come. True: `stop` said so.
    template <class Stop>
    bool run(Instant until, Stop&& stop) {
        pump_all();
        while (!stop()) {
            const auto next = next_event();
            if (!next || *next > until) {
                now = std::max(now, until);
                return false;
            }
            now = std::max(now, *next);
            happen();
        }
        return true;
    }
    bool run(Instant until) {
        return run(until, [&] {
            return std::ranges::all_of(
                ends_, [](const auto& both) { return both[0]->finished() && both[1]->finished(); });
        });
    }
    void pump_all() {
        for (std::size_t flow = 0; flow < ends_.size(); ++flow)
            for (std::size_t side = 0; side < 2; ++side) pump(flow, side);
    }
    [[nodiscard]] Way& way(std::size_t side) { return ways_[side]; }
    /// Sees every message before the link does; false: it is lost.
    std::function<bool(std::size_t side, Bytes message)> filter;

  private:
    struct Packet {
        Instant at;
        std::uint64_t order = 0;
        std::size_t flow = 0;
        std::size_t side = 0;  // that sent it
        Buffer bytes;
        bool operator>(const Packet& other) const {
            return at != other.at ? at > other.at : order > other.order;
        }
    };

    bool happens(double chance) {
        return chance > 0 && static_cast<double>(rng_.next() >> 11) < chance * 9007199254740992.0;
    }

    // Batches, as an actor would: all that came at this time, then what is to be sent.
    void happen() {
        std::vector<std::array<bool, 2>> touched(ends_.size(), {false, false});
        while (!on_the_way_.empty() && on_the_way_.top().at <= now) {
            auto packet = std::move(const_cast<Packet&>(on_the_way_.top()));
            on_the_way_.pop();
            const std::size_t to = 1 - packet.side;
            auto& newest = newest_[{packet.flow, packet.side}];
            if (ways_[packet.side].overtaken_is_lost && packet.order <= newest) continue;
            newest = std::max(newest, packet.order);
            ends_[packet.flow][to]->receive(packet.bytes, now);
            touched[packet.flow][to] = true;
        }
        for (std::size_t flow = 0; flow < ends_.size(); ++flow) {
            for (std::size_t side = 0; side < 2; ++side) {
                const auto at = ends_[flow][side]->deadline();
                if (touched[flow][side] || (at && *at <= now)) pump(flow, side);
            }
        }
    }
    void pump(std::size_t flow, std::size_t side) {
        for (;;) {
            const auto message = ends_[flow][side]->next(now);
            if (message.empty()) return;
            send(flow, side, message);
        }
    }
    void send(std::size_t flow, std::size_t side, Bytes message) {
        auto& way = ways_[side];
        if (filter && !filter(side, message)) return;
        if (happens(way.loss) || (now >= way.outage_begin && now < way.outage_end)) {
            ++way.dropped;
            return;
        }
        Instant at = now;
        if (way.rate > 0) {
            way.free_at = std::max(way.free_at, now);
            if (std::chrono::duration<double>(way.free_at - now).count() * way.rate >
                static_cast<double>(way.buffer)) {
                ++way.dropped;
                return;
            }
            const double seconds = static_cast<double>(message.size()) / way.rate;
            way.free_at += Duration(static_cast<Duration::rep>(seconds * 1e9) + 1);
            at = way.free_at;
        }
        at += way.delay;
        way.carried += message.size();
        if (happens(way.reordered))
            at += Duration(static_cast<Duration::rep>(
                rng_.below(static_cast<std::size_t>(std::max<Duration>(way.delay, 1ms).count()))));
        on_the_way_.push({at, ++order_, flow, side, copy_of(message)});
        if (happens(way.doubled)) on_the_way_.push({at + 1us, order_, flow, side, copy_of(message)});
    }
    [[nodiscard]] Deadline next_event() const {
        Deadline out;
        const auto consider = [&](const Deadline& at) {
            if (at && (!out || *at < *out)) out = at;
        };
        if (!on_the_way_.empty()) consider(on_the_way_.top().at);
        for (const auto& both : ends_)
            for (const auto* end : both) consider(end->deadline());
        return out;
    }

    SeededRandom rng_;
    std::array<Way, 2> ways_;
    std::vector<std::array<Peer*, 2>> ends_;
    std::priority_queue<Packet, std::vector<Packet>, std::greater<>> on_the_way_;
    std::uint64_t order_ = 0;
    std::map<std::pair<std::size_t, std::size_t>, std::uint64_t> newest_;  // by flow and side
};

}  // namespace curvegate::test
