#include "audit/line.hpp"

#include "base/json.hpp"
#include "crypto/hash.hpp"
#include "crypto/keys.hpp"
#include "status/units.hpp"

#include <algorithm>
#include <charconv>

namespace curvegate::audit {
namespace {

constexpr std::size_t kLongestText = 255;  // a name of known_hosts fits
constexpr std::string_view kBeginning = R"({"seq":)";
constexpr std::size_t kHashSize = std::string_view(R"(,"hash":"")").size() + 64;

std::string named(std::string_view key) {
    return ",\"" + std::string(key) + "\":";
}
std::string_view cut(std::string_view text) {
    return text.substr(0, kLongestText);
}

std::string hash_of(std::string_view content) {
    return crypto::encode_key(crypto::blake2b_256(as_bytes(content)), crypto::KeyFormat::hex);
}

bool is_hash(std::string_view text) {
    return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Takes a line apart from its beginning. After a first thing that is not as it should be, nothing is.
class Cursor {
  public:
    explicit Cursor(std::string_view line) : rest_(line) {}

    void literal(std::string_view expected) {
        if (!rest_.starts_with(expected)) return spoil();
        rest_.remove_prefix(expected.size());
    }
    std::uint64_t number() {
        std::uint64_t value = 0;
        const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
        const auto size = static_cast<std::size_t>(end - rest_.data());
        if (error != std::errc{} || (size > 1 && rest_.front() == '0')) return spoil(), 0;
        rest_.remove_prefix(size);
        return value;
    }
    /// A JSON string as it stands between its quotes.
    std::string_view text() {
        literal("\"");
        std::size_t size = 0;
        while (size < rest_.size() && rest_[size] != '"') {
            if (static_cast<unsigned char>(rest_[size]) < 0x20) return spoil(), std::string_view();
            size += rest_[size] == '\\' ? 2 : 1;
        }
        if (size >= rest_.size()) return spoil(), std::string_view();
        const auto out = rest_.substr(0, size);
        rest_.remove_prefix(size + 1);
        return out;
    }
    [[nodiscard]] bool is_good_to_the_end() const { return good_ && rest_.empty(); }

  private:
    void spoil() {
        good_ = false;
        rest_ = {};
    }
    std::string_view rest_;
    bool good_ = true;
};

}  // namespace

Line line_after(const Link& last, const Entry& entry, WallTime at) {
    Line out;
    out.link.sequence = last.sequence + 1;
    JsonWriter line;
    line.open('{').key("seq").number(out.link.sequence).key("ts").text(status::time_text(at));
    line.key("event").text(cut(entry.event)).key("service").text(cut(entry.service));
    line.key("peer").text(cut(entry.peer)).key("key").text(cut(entry.key)).key("src").text(cut(entry.source));
    line.key("reason").text(cut(entry.reason)).key("by").text(cut(entry.by));
    line.key("generation").number(entry.generation).key("count").number(entry.count);
    line.key("prev").text(last.hash);
    out.text = line.take();
    out.link.hash = hash_of(out.text);
    out.text += named("hash") + json_string(out.link.hash) + "}";
    return out;
}

Result<ParsedLine> parse_line(std::string_view line) {
    if (line.size() >= kLongestLine) return fail(Errc::bad_form);
    ParsedLine out;
    Cursor cursor(line);
    cursor.literal(kBeginning);
    out.link.sequence = cursor.number();
    cursor.literal(named("ts"));
    out.time = cursor.text();
    for (const auto* key : {"event", "service", "peer", "key", "src", "reason", "by"}) {
        cursor.literal(named(key));
        (void)cursor.text();
    }
    for (const auto* key : {"generation", "count"}) {
        cursor.literal(named(key));
        (void)cursor.number();
    }
    cursor.literal(named("prev"));
    out.previous = cursor.text();
    cursor.literal(named("hash"));
    out.link.hash = cursor.text();
    cursor.literal("}");
    const bool good = cursor.is_good_to_the_end() && out.link.sequence != 0 && is_hash(out.previous) &&
                      is_hash(out.link.hash);
    if (!good) return fail(Errc::bad_form);
    const auto content = line.substr(0, line.size() - kHashSize - 1);  // 1: the brace
    if (hash_of(content) != out.link.hash) return fail(Errc::hash_differs);
    return out;
}

}  // namespace curvegate::audit
