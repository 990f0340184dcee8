#include "log/log.hpp"

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "os/outlet.hpp"

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
#include <span>

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

std::string line_of(Format format, std::string_view word, std::span<const Field> fields,
                    std::uint64_t suppressed);

/// Whole lines to a descriptor. A reader who does not read loses lines, and is told how many when it reads
/// again; nobody waits for it.
class DescriptorSink final : public spdlog::sinks::base_sink<std::mutex> {
  public:
    DescriptorSink(int descriptor, Format format, Head head)
        : descriptor_(descriptor), format_(format), head_(head), outlet_(descriptor) {}

    void redirect(int descriptor) {
        const std::lock_guard lock(mutex_);
        if (::dup3(descriptor, descriptor_, O_CLOEXEC) >= 0) outlet_ = os::Outlet(descriptor_);
    }
    void after_fork() { outlet_.after_fork(); }

  private:
    void sink_it_(const spdlog::details::log_msg& message) override {
        if (lost_ != 0) tell_lost(message.logger_name);
        if (!put(message)) ++lost_;
    }
    void tell_lost(spdlog::string_view_t logger) {
        const std::array count = {Field("count", lost_)};
        const auto line = line_of(format_, "log_lines_lost", count, 0);
        if (put({logger, spdlog::level::warn, line})) lost_ = 0;
    }
    [[nodiscard]] bool put(const spdlog::details::log_msg& message) {
        spdlog::memory_buf_t line;
        if (head_ == Head::priority) {
            line.push_back('<');
            line.push_back(priority_of(message.level));
            line.push_back('>');
        }
        formatter_->format(message, line);
        return outlet_.write({line.data(), line.size()});
    }
    void flush_() override {}
    int descriptor_;
    Format format_;
    Head head_;
    os::Outlet outlet_;
    std::uint64_t lost_ = 0;  // lines, since the last that was written
};

struct Bucket {
    double tokens = kBurst;
    std::chrono::steady_clock::time_point filled = std::chrono::steady_clock::now();
    std::uint64_t suppressed = 0;
};

struct State {
    Format format = Format::text;
    std::shared_ptr<DescriptorSink> sink;  // none: nobody has called configure()
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

void append_text(std::string& out, const Field& field) {
    out += ' ';
    out += field.key;
    out += '=';
    std::string value;
    append_escaped(value, field.value);
    const bool plain =
        !value.empty() && value == field.value && value.find_first_of(" =") == std::string::npos;
    out += plain ? value : '"' + value + '"';
}

/// Into an object that the caller opens and closes.
void write_json(JsonWriter& out, std::string_view word, std::span<const Field> fields,
                std::uint64_t suppressed) {
    out.key("event").text(word);
    for (const Field& field : fields) {
        out.key(field.key);
        if (field.kind == Field::Kind::number) {
            out.decimal(field.value);
        } else {
            out.text(field.value);
        }
    }
    if (suppressed != 0) out.key("suppressed").number(suppressed);
}

std::string line_of(Format format, std::string_view word, std::span<const Field> fields,
                    std::uint64_t suppressed) {
    if (format == Format::json) {
        JsonWriter line;
        write_json(line, word, fields, suppressed);
        return line.take();
    }
    std::string line(word);
    for (const Field& field : fields) append_text(line, field);
    if (suppressed != 0) append_text(line, {"suppressed", suppressed});
    return line;
}

std::span<const Field> span_of(std::initializer_list<Field> fields) {
    return {fields.begin(), fields.size()};
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

void write_line(Level level, std::string_view word, std::span<const Field> fields, std::uint64_t suppressed) {
    if (state().tapped) {
        const std::lock_guard lock(state().tap_mutex);
        const auto name = spdlog::level::to_string_view(level_of(level));
        JsonWriter line;
        line.open('{').key("ts").text(timestamp()).key("level").text({name.data(), name.size()});
        write_json(line, word, fields, suppressed);
        if (state().tap) state().tap(line.close('}').take());
    }
    if (!spdlog::should_log(level_of(level))) return;
    spdlog::log(level_of(level), "{}", line_of(state().format, word, fields, suppressed));
}

}  // namespace

void configure(Level least, Format format, Head head, int descriptor) {
    state().format = format;
    state().sink = std::make_shared<DescriptorSink>(descriptor, format, head);
    auto logger = std::make_shared<spdlog::logger>("curvegate", state().sink);
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
    if (state().sink) state().sink->redirect(descriptor);
}

void after_fork() {
    if (state().sink) state().sink->after_fork();
}

void tap(std::function<void(const std::string& line)> tap) {
    const std::lock_guard lock(state().tap_mutex);
    state().tapped = static_cast<bool>(tap);
    state().tap = std::move(tap);
}

void event(Level level, std::string_view word, std::initializer_list<Field> fields) {
    write_line(level, word, span_of(fields), 0);
}

std::optional<std::uint64_t> admit(Level level, std::string_view word) {
    if (!state().tapped && !spdlog::should_log(level_of(level))) return std::nullopt;
    const std::lock_guard lock(state().mutex);
    auto found = state().buckets.find(word);
    if (found == state().buckets.end()) found = state().buckets.emplace(std::string(word), Bucket{}).first;
    Bucket& bucket = found->second;
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - bucket.filled).count();
    bucket.tokens = std::min(kBurst, bucket.tokens + seconds * kLinesASecond);
    bucket.filled = now;
    if (bucket.tokens < 1) {
        ++bucket.suppressed;
        return std::nullopt;
    }
    bucket.tokens -= 1;
    return std::exchange(bucket.suppressed, 0);
}

void admitted(Level level, std::string_view word, const Fields& fields, std::uint64_t suppressed) {
    write_line(level, word, fields, suppressed);
}

void limited(Level level, std::string_view word, std::initializer_list<Field> fields) {
    if (const auto suppressed = admit(level, word)) write_line(level, word, span_of(fields), *suppressed);
}

}  // namespace curvegate::log
