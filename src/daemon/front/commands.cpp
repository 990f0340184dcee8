#include "daemon/front/commands.hpp"

#include "base/exit_code.hpp"
#include "crypto/key_shape.hpp"
#include "io/clock.hpp"
#include "log/log.hpp"
#include "status/json.hpp"
#include "status/text.hpp"
#include "text/reading.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace curvegate::daemon::front {
namespace {

constexpr std::size_t kMostListeners = 8;
constexpr std::size_t kLargestScreen = 10'000;

std::string uid_of(const ControlReply& reply) {
    return "uid " + std::to_string(reply.uid());
}

std::size_t number(const ControlServer::Words& words, std::size_t index) {
    std::size_t out = 0;
    if (index < words.size()) {
        const std::string& word = words[index];
        (void)std::from_chars(word.data(), word.data() + word.size(), out);
    }
    return std::min(out, kLargestScreen);
}

void say_lines(ControlReply& reply, std::string_view text) {
    while (!text.empty()) {
        const auto end = text.find('\n');
        reply.out(text.substr(0, end));
        text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    }
}

/// What to say of a KEY or NAME that stands for no key or for too many. It may be a secret, and is not
/// repeated if it looks like a key.
std::string why_not_revoked(const std::string& word, std::size_t keys) {
    const std::string who = text::quoted(word);
    if (keys != 0) return who + " has more keys than can be revoked at once; name them";
    const auto key = crypto::PublicKey::from_text(word);
    if (!key && crypto::looks_like_key(word)) return "KEY: " + key.error().text();
    return who + " is neither a key nor a name of known_hosts";
}

}  // namespace

Commands::Commands(Host& host)
    : host_(host), json_([this](std::function<void(std::string)> done) {
          host_.take_snapshot([done = std::move(done)](const status::Snapshot& snapshot) {
              done(status::render_json(snapshot));
          });
      }) {}

Commands::~Commands() {
    *alive_ = false;
    log::tap(nullptr);
}

void Commands::handle(Right right, const Words& words, const Reply& reply) {
    struct Verb {
        std::string_view name;
        Right least;
        void (Commands::*run)(const Words& words, const Reply& reply);
    };
    // Events tell more than the status: what happened before, and what is wrong with which file.
    static constexpr auto kVerbs = std::to_array<Verb>({
        {"status", Right::status, &Commands::status},
        {"reload", Right::command, &Commands::reload},
        {"revoke", Right::command, &Commands::revoke},
        {"drain", Right::command, &Commands::drain},
        {"events", Right::command, &Commands::events},
    });
    const auto* const verb = std::ranges::find(kVerbs, words.front(), &Verb::name);
    if (verb == kVerbs.end()) {
        reply->err("the daemon knows no verb " + words.front());
        return reply->end(exit_code::kUsage);
    }
    if (right >= verb->least) return (this->*verb->run)(words, reply);
    log::limited(log::Level::warning, "control_refused", {{"verb", words.front()}});
    reply->err("status-group may ask for the status alone; " + words.front() +
               " is for root, the daemon's user and control-group");
    reply->end(exit_code::kNoPermission);
}

// status json | text [WIDTH [HEIGHT]] | watch [WIDTH [HEIGHT]]
void Commands::status(const Words& words, const Reply& reply) {
    const std::string form = words.size() > 1 ? words[1] : "text";
    if (form == "json") {
        return json_.ask(io::now(), [reply](const SharedPage::Page& page) {
            reply->page(page);
            reply->end(EXIT_SUCCESS);
        });
    }
    host_.take_snapshot([this, form, words, reply](const status::Snapshot& snapshot) {
        if (form == "text") {
            say_lines(*reply, status::render_text(snapshot, nullptr, {number(words, 2), number(words, 3)}));
        } else if (form == "watch") {
            const auto rates = last_ ? status::rates(*last_, snapshot) : status::Rates{};
            last_ = snapshot;
            say_lines(*reply, status::render_text(snapshot, &rates,
                                                  {number(words, 2), number(words, 3),
                                                   status::Glyphs::unicode, status::Paint::ansi}));
        } else {
            reply->err("status takes json, text or watch");
            return reply->end(exit_code::kUsage);
        }
        reply->end(EXIT_SUCCESS);
    });
}

std::uint32_t Commands::expect(const Reply& reply) {
    std::erase_if(waiting_, [](const auto& one) { return !one.second->alive(); });
    waiting_[next_id_] = reply;
    return next_id_++;
}

void Commands::told(std::uint32_t id, const std::string& line) {
    if (const auto found = waiting_.find(id); found != waiting_.end()) found->second->out(line);
}

void Commands::done(std::uint32_t id, int status) {
    const auto found = waiting_.find(id);
    if (found == waiting_.end()) return;
    const Reply reply = std::move(found->second);
    waiting_.erase(found);
    const bool is_revoked =
        status == exit_code::kOk || status == exit_code::kCannotCreate;  // perhaps not in the file
    if (!is_revoked) reply->err("not done; see above");
    reply->end(status);
}

void Commands::reload(const Words&, const Reply& reply) {
    host_.tell_parent(to_parent::Reload{expect(reply)});
}

void Commands::applied(std::uint32_t id, std::uint32_t generation, std::size_t ended) {
    log::event(log::Level::info, "reloaded", {{"generation", generation}, {"ended", ended}});
    told(id, "generation " + std::to_string(generation) +
                 " is in force; sessions ended: " + std::to_string(ended));
    done(id, EXIT_SUCCESS);
}

void Commands::decided(std::uint32_t id, audit::Entry entry) {
    const auto found = waiting_.find(id);
    std::string by = id == 0 ? "signal" : "a command";
    if (found != waiting_.end()) by = uid_of(*found->second);
    entry.by = by;
    host_.audit().decided(entry);
}

// Sessions first, the file after: what a thief does now matters more than what is written.
void Commands::revoke(const Words& words, const Reply& reply) {
    if (words.size() != 2) {
        reply->err("revoke takes a key or a name");
        return reply->end(exit_code::kUsage);
    }
    std::vector<crypto::PublicKey> keys;
    if (const auto key = crypto::PublicKey::from_text(words[1])) {
        keys.push_back(*key);
    } else {
        for (const auto& entry : host_.registry().entries()) {
            const bool named = std::ranges::find(entry.names, words[1]) != entry.names.end();
            if (named && std::ranges::find(keys, entry.key) == keys.end()) keys.push_back(entry.key);
        }
    }
    if (keys.empty() || keys.size() > kMaxRevoked) {
        reply->err(why_not_revoked(words[1], keys.size()));
        return reply->end(EXIT_FAILURE);
    }
    for (const auto& key : keys) {
        host_.audit().decided({.event = "revoke",
                               .peer = host_.registry().name_of(key),
                               .key = key.text(),
                               .by = uid_of(*reply)});
    }
    host_.revoke(keys, [this, keys, reply, who = words[1]](std::size_t ended) {
        log::event(log::Level::warning, "revoked", {{"peer", who}, {"keys", keys.size()}, {"ended", ended}});
        reply->out("revoked: " + who + "; sessions ended: " + std::to_string(ended));
        to_parent::Revoke write{expect(reply), {}};
        for (const auto& key : keys) write.keys.push_back(to_array(key.bytes()));
        host_.tell_parent(write);
    });
}

void Commands::drain(const Words&, const Reply& reply) {
    host_.audit().decided({.event = "drain", .by = uid_of(*reply)});
    host_.tell_parent(to_parent::Drain{});
    reply->out("draining");
    reply->end(EXIT_SUCCESS);
}

// ---- events ----

void Commands::events(const Words&, const Reply& reply) {
    std::erase_if(listeners_, [](const Reply& one) { return !one->alive(); });
    if (listeners_.size() == kMostListeners) {
        reply->err("too many listen already");
        return reply->end(EXIT_FAILURE);
    }
    listeners_.push_back(reply);
    log::tap([this, alive = alive_](const std::string& line) {
        host_.post([this, alive, line] {
            if (*alive) on_event(line);
        });
    });
}

void Commands::on_event(const std::string& line) {
    for (const Reply& listener : listeners_) listener->event(line);
    std::erase_if(listeners_, [](const Reply& one) { return !one->alive(); });
    if (listeners_.empty()) log::tap(nullptr);
}

}  // namespace curvegate::daemon::front
