// A stream against a peer that says anything, in any order and at any time: it keeps within its bounds, gives
// bytes only as they came, and never talks without end.
#include "stream/stream.hpp"

#include "harness.hpp"

using namespace curvegate;
using wire::curvecp::Message;

namespace {

constexpr std::size_t kMostUnread = 100'000;
constexpr std::size_t kMostUnsent = 100'000;

/// The input as a script.
class Script {
  public:
    explicit Script(Bytes input) : rest_(input) {}
    [[nodiscard]] bool over() const { return rest_.empty(); }
    Byte byte() {
        if (rest_.empty()) return 0;
        const Byte out = rest_[0];
        rest_ = rest_.subspan(1);
        return out;
    }
    /// Small numbers often, large ones at times.
    std::uint64_t number() {
        const Byte kind = byte();
        if (kind < 128) return kind;
        std::uint64_t out = 0;
        for (int i = 0; i < (kind & 7); ++i) out = out << 8 | byte();
        return (kind & 8) != 0 ? out * 1'024 : out;
    }
    Bytes take(std::size_t size) {
        const auto out = rest_.first(std::min(size, rest_.size()));
        rest_ = rest_.subspan(out.size());
        return out;
    }

  private:
    Bytes rest_;
};

class Run {
  public:
    explicit Run(Bytes input)
        : script_(input),
          stream_({.most_unread = kMostUnread, .most_unsent = kMostUnsent, .first_id = ~0U - 2}, now_) {}

    void play() {
        for (int steps = 0; !script_.over() && steps < 2'000; ++steps) {
            step();
            check();
        }
        now_ += std::chrono::hours(1);
        drain();
        check();
    }

  private:
    void step() {
        switch (script_.byte() % 9) {
            case 0: give(message()); break;
            case 1: raw(); break;
            case 2: write(script_.number()); break;
            case 3:
                stream_.consume(std::min<std::uint64_t>(script_.number(), stream_.readable().size()));
                break;
            case 4: now_ += std::chrono::microseconds(script_.number() & 0xf'ffff'ffff); break;
            case 5: drain(); break;
            case 6: end(script_.byte()); break;
            case 7: acknowledge(); break;
            default: block(); break;
        }
    }
    void end(Byte how) {
        if (how == 0) stream_.finish();
        if (how == 1) stream_.abort();
        if (how == 2) stream_.want_ping();
        if (how == 3) stream_.path_changed(now_);
        if (how == 4) stream_.limit_blocks(512);
    }
    void write(std::uint64_t size) {
        const auto room = stream_.prepare();
        const auto part = room.first(std::min<std::uint64_t>(room.size(), size));
        std::ranges::fill(part, Byte{1});
        if (!room.empty()) stream_.commit(part.size());
    }
    Message message() {
        Message out;
        out.id = {static_cast<std::uint32_t>(script_.number())};
        out.acked_id = {static_cast<std::uint32_t>(script_.number())};
        std::uint64_t at = script_.number() & 0xfff'ffff;
        out.acked[0].end = at;
        for (std::size_t i = 1; i < out.acked.size(); ++i) {
            const std::uint64_t begin = at + (script_.number() & 0xffff);
            at = begin + (script_.number() & 0xffff);
            out.acked[i] = {begin, at};
        }
        out.position = script_.number() & 0xfff'ffff'ffff;
        out.end = static_cast<wire::curvecp::StreamEnd>(script_.byte() % 3);
        if (script_.byte() % 2 == 0)
            out.extension = wire::curvecp::Extension{.limit = script_.number(), .capabilities = 0};
        out.block = Bytes(zeros_).first(script_.number() % 1'025);
        return out;
    }
    void give(const Message& message) {
        std::vector<Byte> bytes(wire::curvecp::message_size(message));
        serialise(message, bytes);
        receive(bytes);
    }
    void receive(Bytes bytes) {
        if (const auto message = wire::curvecp::parse_message(bytes)) (void)stream_.receive(*message, now_);
    }
    void raw() {
        // Its block may hold anything; what the peer may say of it may not.
        auto bytes = fuzz::copy_of(nullptr, 0);
        const auto from = script_.take(script_.byte() * std::size_t{16});
        bytes.assign(from.begin(), from.end());
        if (const auto parsed = wire::curvecp::parse_message(bytes))
            std::ranges::fill(std::span(bytes).last(parsed->block.size()), Byte{0});
        receive(bytes);
    }
    void acknowledge() {
        Message out;
        out.acked[0].end = std::min(script_.number(), sent_);
        out.acked_id = {last_id_ - script_.byte() % 8};
        give(out);
    }
    void block() {
        Message out;
        out.id = {++id_};
        out.position = script_.number();
        out.block = Bytes(zeros_).first(script_.number() % 1'025);
        give(out);
    }
    void drain() {
        std::array<Byte, wire::curvecp::kMaxMessage> out{};
        for (std::size_t count = 0;; ++count) {
            fuzz::must(count < 20'000);
            const auto size = stream_.next_message(out, now_);
            if (size == 0) break;
            const auto said = wire::curvecp::parse_message(Bytes(out).first(size));
            fuzz::must(said.has_value() && said->extension.has_value());
            fuzz::must(said->extension->limit >= limit_);
            limit_ = said->extension->limit;
            sent_ = std::max(sent_, said->position + said->block.size());
            if (said->id.value != 0) last_id_ = said->id.value;
        }
        // What is due has gone out.
        if (const auto next = stream_.next_deadline()) fuzz::must(*next > now_);
    }
    void check() {
        fuzz::must(stream_.received() >= received_);
        received_ = stream_.received();
        fuzz::must(sent_ <= stream_.sent());
        for (const Byte byte : stream_.readable()) fuzz::must(byte == 0);
        fuzz::must(stream_.statistics().memory < 4'000'000);
    }

    Instant now_ = Instant(std::chrono::hours(1));
    Script script_;
    stream::Stream stream_;
    std::array<Byte, wire::curvecp::kMaxBlock> zeros_{};
    std::uint64_t received_ = 0;
    std::uint64_t sent_ = 0;
    std::uint64_t limit_ = 0;
    std::uint32_t last_id_ = 0;
    std::uint32_t id_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    Run(input).play();
    return 0;
}
