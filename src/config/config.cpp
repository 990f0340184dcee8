#include "config/config.hpp"

#include "config/ini.hpp"
#include "config/keys.hpp"
#include "config/section.hpp"
#include "text/reading.hpp"

#include <algorithm>
#include <filesystem>

namespace curvegate::config {
namespace {

using text::quoted;

std::string place(std::string_view service, std::string_view key) {
    return std::string(service) + "\n" + std::string(key);
}

bool is_same_file(const std::string& a, const std::string& b) {
    const std::filesystem::path x(a);
    return x.lexically_normal() == std::filesystem::path(b).lexically_normal();
}

/// Reads a file line by line into a Config; `finish` judges it as a whole.
class Parser {
  public:
    explicit Parser(std::string_view file) : problems_(file), warnings_(file) { parsed_.config.file = file; }

    /// The first one is the main file.
    void read(std::string_view text, std::string_view file) {
        auto& files = parsed_.config.files;
        const std::size_t before = files.size() * kLinesAFile;
        if (!files.empty()) scope_ = Scope::included;
        files.emplace_back(file);
        text::Lines lines(text);
        while (const auto line = lines.next()) take(lex(*line), before + lines.number());
        end_section();
    }

    std::expected<Parsed, Problems> finished() {
        finish();
        if (!problems_.empty()) return std::unexpected(parsed_.config.located(problems_.take()));
        parsed_.warnings = parsed_.config.located(warnings_.take());
        return std::move(parsed_);
    }

  private:
    /// Where the lines that are being read belong.
    enum class Scope {
        globals,
        included,  ///< above the first section of an included file, where nothing belongs
        section,
        ignored,  ///< a section whose header is wrong: its lines are checked one by one, not as a whole
    };

    void take(IniLine line, std::size_t number) {
        switch (line.kind) {
            case IniLine::Kind::blank: return;
            case IniLine::Kind::bad: return problems_.add(number, std::move(line.problem));
            case IniLine::Kind::section: end_section(); return begin_section(line.name, number);
            case IniLine::Kind::setting: return take_setting(line, number);
        }
    }

    void begin_section(std::string_view name, std::size_t number) {
        draft_ = ServiceDraft{.service = defaults_.service, .accept = {}, .connect = {}, .lines = {}};
        draft_.service.name = name;
        draft_.service.line = number;
        scope_ = Scope::ignored;
        const auto first = sections_.find(name);
        if (!registry::is_valid_name(name)) {
            problems_.add(number,
                          quoted(name) + " is not a section's name: letters, digits, '.', '-', '_', ':'");
        } else if (first != sections_.end()) {
            problems_.add(number,
                          "[" + std::string(name) + "] stands twice: first in " + in_line(first->second));
        } else {
            sections_.emplace(name, number);
            scope_ = Scope::section;
        }
    }

    [[nodiscard]] std::string in_line(std::size_t line) const { return parsed_.config.line_text(line); }

    void end_section() {
        if (scope_ != Scope::section) return;
        scope_ = Scope::ignored;  // once
        finish_section(draft_, problems_, warnings_);
        const Service& service = draft_.service;
        for (const auto& [key, line] : draft_.lines) parsed_.lines.emplace(place(service.name, key), line);
        parsed_.config.services.push_back(std::move(draft_.service));
    }

    void take_setting(const IniLine& line, std::size_t number) {
        const Key* key = find_key(line.name);
        if (auto why = why_not_here(key, line.name); !why.empty())
            return problems_.add(number, std::move(why));
        ServiceDraft& draft = scope_ == Scope::globals ? defaults_ : draft_;
        const auto [first, is_new] = draft.lines.emplace(key->name, number);
        if (!is_new && key->times == Times::once) {
            return problems_.add(number,
                                 quoted(key->name) + " stands twice: first in " + in_line(first->second));
        }
        if (!comment_hint(line.value).empty()) {
            warnings_.add(
                number,
                "# begins a comment only at the start of a line; here it belongs to the value (use ;)");
        }
        if (line.value.front() == '"' || line.value.front() == '\'')
            return problems_.add(number,
                                 std::string(key->name) + ": a value stands without quotes; remove them");
        Setting setting{line.value, number, parsed_.config, draft, {}};
        key->apply(setting);
        if (setting.problem.empty()) return;
        problems_.add(
            number, std::string(key->name) + ": " + setting.problem + std::string(comment_hint(line.value)));
    }

    /// Why a key may not stand where it stands; empty if it may.
    std::string why_not_here(const Key* key, std::string_view name) const {
        if (key == nullptr) return "unknown key " + quoted(name) + text::did_you_mean(name, key_names());
        if (parsed_.config.files.size() > 1 && key->name == "include")
            return "an included file includes no other: name both in " + parsed_.config.file;
        if (scope_ == Scope::included) {
            return quoted(name) + " stands above the first [section] of an included file: globals stand in " +
                   parsed_.config.file + " alone";
        }
        const bool in_globals = scope_ == Scope::globals;
        if (in_globals && key->where == Where::service) {
            return quoted(name) + " belongs into a [section] of its own, not among the globals";
        }
        if (!in_globals && key->where == Where::global) {
            return quoted(name) + " is a global key: it belongs above the first [section]";
        }
        return {};
    }

    void finish() {
        for (const auto& [key, line] : defaults_.lines) {
            parsed_.lines.emplace(place("", key), line);
            parsed_.config.lines.emplace(key, line);
        }
        const Config& config = parsed_.config;
        if (sections_.empty()) problems_.add(0, "no [section]: a file has one for each service");
        if (!config.services.empty() && !defaults_.lines.contains("known-hosts")) {
            problems_.add(
                config.services.front().line,
                "known-hosts = PATH is missing above the first [section]: it says whose keys are whose");
        }
        if (!config.server_key.empty() && is_same_file(config.server_key, config.client_key)) {
            const auto [first, second] =
                std::minmax(defaults_.lines.at("server-key"), defaults_.lines.at("client-key"));
            problems_.add(second, "server-key and client-key (" + in_line(first) + ") are one file, " +
                                      config.server_key +
                                      ": a key serves one role (curvegate keygen makes another)");
        }
        check_audit();
        check_listeners(parsed_, problems_);
    }

    void check_audit() {
        const Config& config = parsed_.config;
        if (config.audit_required && config.audit.empty()) {
            problems_.add(defaults_.lines.at("audit-required"),
                          "audit-required needs audit = PATH: without a file no session could ever begin");
        }
        if (!config.audit.empty() && is_same_file(config.audit, config.log_file))
            problems_.add(defaults_.lines.at("audit"), "audit and log-file are one file: name another one");
    }

    Scope scope_ = Scope::globals;
    Parsed parsed_;
    ServiceDraft defaults_;
    ServiceDraft draft_;
    std::map<std::string, std::size_t, std::less<>> sections_;  // name -> line
    text::ProblemList problems_;
    text::ProblemList warnings_;
};

bool needs(const Config& config, Side side) {
    return std::ranges::any_of(config.services, [&](const Service& service) { return service.side == side; });
}

}  // namespace

const Address& Service::first() const noexcept {
    static const Address kNone;  // while a section is read that has none, or a wrong one
    return connect.empty() ? kNone : connect.front();
}

service::WireOptions Service::wire_options() const {
    service::WireOptions out{end_of_stream, {}, server_extension, client_extension};
    if (service::names_services(wire()) && server_name != "*") out.server_name = server_name;
    return out;
}

std::vector<std::string> Service::peers() const {
    std::vector<std::string> out;
    for (const Address& target : connect) {
        const std::string& expected = peer_of(target);
        if (std::ranges::find(out, expected) == out.end()) out.push_back(expected);
    }
    return out;
}

std::string Service::connect_text() const {
    std::string out;
    for (const Address& target : connect) out += (out.empty() ? "" : ", ") + target.text();
    return out;
}

std::string Config::place_of(std::string_view key) const {
    const auto found = lines.find(key);
    return found == lines.end() ? file : file + ":" + std::to_string(found->second % kLinesAFile);
}

bool Config::needs_server_key() const {
    return needs(*this, Side::server);
}
bool Config::needs_client_key() const {
    return needs(*this, Side::client);
}

const Service* Config::find_service(std::string_view name) const {
    const auto found = std::ranges::find(services, name, &Service::name);
    return found != services.end() ? &*found : nullptr;
}

std::size_t Parsed::line_of(std::string_view service, std::string_view key) const {
    const auto found = lines.find(place(service, key));
    return found != lines.end() ? found->second : 0;
}

Problems Config::located(Problems problems) const {
    for (Problem& problem : problems) {
        const std::size_t index = problem.line / kLinesAFile;
        if (problem.file != file || index == 0 || index >= files.size()) continue;
        problem.file = files[index];
        problem.line %= kLinesAFile;
    }
    return problems;
}

std::string Config::line_text(std::size_t line) const {
    const std::string number = std::to_string(line % kLinesAFile);
    return files.size() > 1 ? files.at(line / kLinesAFile) + ":" + number : "line " + number;
}

std::expected<Parsed, Problems> parse(std::string_view text, std::string_view file) {
    Parser parser(file);
    parser.read(text, file);
    return parser.finished();
}

std::expected<Parsed, Problems> parse(const std::vector<Source>& sources) {
    Parser parser(sources.front().file);
    for (const Source& source : sources) parser.read(source.text, source.file);
    return parser.finished();
}

std::optional<std::string> find_global(std::string_view text, std::string_view key) {
    text::Lines lines(text);
    while (const auto line = lines.next()) {
        const auto parsed = lex(*line);
        if (parsed.kind == IniLine::Kind::section) break;
        if (parsed.kind == IniLine::Kind::setting && parsed.name == key) return std::string(parsed.value);
    }
    return std::nullopt;
}

}  // namespace curvegate::config
