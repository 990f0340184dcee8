#include "log/log.hpp"

#include <fcntl.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>

namespace curvegate::log {
namespace {

constexpr double kLinesASecond = 10;
constexpr double kBurst = 50;

// syslog's: 7 debug, 6 info, 4 warning, 3 error.
char priority_of(spdlog::level::level_enum level) {
    switch (level) {
        case spdlog::level::trace:
        case spdlog::level::debug: return '7';
        case spdlog::level::info: return '6';
        case spdlog::level::warn: return '4';
        default: return '3';
    }
}

/// Whole lines to a descriptor; a full pipe loses lines rather than stop the program.
class DescriptorSink final : public spdlog::sinks::base_sink<std::mutex> {
  public:
    DescriptorSink(int descriptor, Head head) : descriptor_(descriptor), head_(head) {}

  private:
    void sink_it_(const spdlog::details::log_msg& message) override {
        spdlog::memory_buf_t line;
        if (head_ == Head::priority) {
            line.push_back('<');
            line.push_back(priority_of(message.level));
            line.push_back('>');
        }
        formatter_->format(message, line);
        [[maybe_unused]] const auto wrote = ::write(descriptor_, line.data(), line.size());
    }
    void flush_() override {}
    int descriptor_;
    Head head_;
};

struct Bucket {
    double tokens = kBurst;
    std::chrono::steady_clock::time_point filled = std::chrono::steady_clock::now();
    std::uint64_t suppressed = 0;
};

struct State {
    Format format = Format::text;
    int descriptor = STDERR_FILENO;
    std::mutex mutex;
    std::map<std::string, Bucket, std::less<>> buckets;
    std::atomic<bool> tapped{false};
    std::mutex tap_mutex;
    std::function<void(const std::string&)> tap;
};

State& state() {
    static State instance;
    return instance;
}

spdlog::level::level_enum level_of(Level level) {
    constexpr std::array levels = {spdlog::level::trace, spdlog::level::debug, spdlog::level::info,
                                   spdlog::level::warn, spdlog::level::err};
    return levels[static_cast<std::size_t>(level)];
}

void append_escaped(std::string& out, std::string_view value) {
    constexpr std::string_view kHex = "0123456789abcdef";
    for (const char c : value) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (byte < 0x20 || byte == 0x7f) {
            out += "\\u00";
            out += kHex[byte >> 4];
            out += kHex[byte & 15];
        } else {
            out += c;
        }
    }
}

void append_text(std::string& out, const Field& field) {
    out += ' ';
    out += field.key;
    out += '=';
    const bool plain = !field.value.empty() && field.value.find_first_of(" \"\\=\t\r\n") == std::string::npos;
    if (!plain) out += '"';
    append_escaped(out, field.value);
    if (!plain) out += '"';
}

void append_json(std::string& out, const Field& field) {
    out += ",\"";
    out += field.key;
    out += "\":";
    if (field.kind == Field::Kind::number) {
        out += field.value;
        return;
    }
    out += '"';
    append_escaped(out, field.value);
    out += '"';
}

std::string line_of(bool json, std::string_view word, std::initializer_list<Field> fields,
                    std::uint64_t suppressed) {
    std::string line = json ? R"("event":")" + std::string(word) + '"' : std::string(word);
    const auto append = json ? append_json : append_text;
    for (const Field& field : fields) append(line, field);
    if (suppressed != 0) append(line, {"suppressed", suppressed});
    return line;
}

std::string timestamp() {
    const auto now = std::chrono::system_clock::now();
    const auto milliseconds =
        std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()) % 1000;
    const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    std::array<char, 40> text{};
    const std::size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
    const std::string fraction = std::to_string(1000 + milliseconds.count());
    return std::string(text.data(), size) + '.' + fraction.substr(1) + 'Z';
}

void write_line(Level level, std::string_view word, std::initializer_list<Field> fields,
                std::uint64_t suppressed) {
    if (state().tapped) {
        const std::lock_guard lock(state().tap_mutex);
        const auto name = spdlog::level::to_string_view(level_of(level));
        const std::string line = R"({"ts":")" + timestamp() + R"(","level":")" +
                                 std::string(name.data(), name.size()) + "\"," +
                                 line_of(true, word, fields, suppressed) + "}";
        if (state().tap) state().tap(line);
    }
    if (!spdlog::should_log(level_of(level))) return;
    spdlog::log(level_of(level), "{}", line_of(state().format == Format::json, word, fields, suppressed));
}

}  // namespace

void configure(Level least, Format format, Head head, int descriptor) {
    state().format = format;
    state().descriptor = descriptor;
    auto logger =
        std::make_shared<spdlog::logger>("curvegate", std::make_shared<DescriptorSink>(descriptor, head));
    logger->set_level(level_of(least));
    const bool json = format == Format::json;
    std::string pattern = json ? R"("level":"%l",%v})" : "%l %v";
    if (head == Head::time) {
        pattern.insert(0, json ? R"("ts":"%Y-%m-%dT%H:%M:%S.%eZ",)" : "%Y-%m-%dT%H:%M:%S.%eZ ");
    }
    logger->set_pattern(json ? "{" + pattern : pattern, spdlog::pattern_time_type::utc);
    spdlog::set_default_logger(std::move(logger));
}

bool is_journal(int descriptor, const char* journal_stream) {
    struct stat info{};
    if (journal_stream == nullptr || ::fstat(descriptor, &info) != 0) return false;
    return std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino) == journal_stream;
}

void redirect(int descriptor) {
    (void)::dup3(descriptor, state().descriptor, O_CLOEXEC);
}

void tap(std::function<void(const std::string& line)> tap) {
    const std::lock_guard lock(state().tap_mutex);
    state().tapped = static_cast<bool>(tap);
    state().tap = std::move(tap);
}

void event(Level level, std::string_view word, std::initializer_list<Field> fields) {
    write_line(level, word, fields, 0);
}

void limited(Level level, std::string_view word, std::initializer_list<Field> fields) {
    std::uint64_t suppressed = 0;
    {
        const std::lock_guard lock(state().mutex);
        auto found = state().buckets.find(word);
        if (found == state().buckets.end())
            found = state().buckets.emplace(std::string(word), Bucket{}).first;
        Bucket& bucket = found->second;
        const auto now = std::chrono::steady_clock::now();
        const double seconds = std::chrono::duration<double>(now - bucket.filled).count();
        bucket.tokens = std::min(kBurst, bucket.tokens + seconds * kLinesASecond);
        bucket.filled = now;
        if (bucket.tokens < 1) {
            ++bucket.suppressed;
            return;
        }
        bucket.tokens -= 1;
        suppressed = std::exchange(bucket.suppressed, 0);
    }
    write_line(level, word, fields, suppressed);
}

}  // namespace curvegate::log
