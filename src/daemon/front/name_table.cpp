#include "daemon/front/name_table.hpp"

#include <algorithm>

namespace curvegate::daemon::front {

void NameTable::resolve(const std::string& host, Instant now, Handler handler) {
    Name& name = names_[host];
    const bool known = !name.addresses.empty();
    if (known && name.checked && now - *name.checked < kFresh)
        return handler({NameOutcome::found, name.addresses});
    if (!want(host, name, now) || waiting_ >= kMostWaiting) return handler(stale_or(name, NameOutcome::busy));
    // After a silence nobody is patient again until there was an answer.
    const Instant until =
        known ? *name.wanted + (name.silent ? Duration::zero() : kPatience) : now + kLongestWait;
    if (until <= now) return handler(stale_or(name, NameOutcome::no_answer));
    name.waiting.push_back({until, std::move(handler)});
    ++waiting_;
}

// Returns false if no more names may wait for a look-up.
bool NameTable::want(const std::string& host, Name& name, Instant now) {
    if (name.wanted) return true;
    if (queue_.size() >= kMostQueued) return false;
    name.wanted = now;
    queue_.push_back(host);
    return true;
}

std::optional<NameTable::Ask> NameTable::next_ask(Instant now) {
    if (queue_.empty() || under_way_.size() >= kAtOnce) return std::nullopt;
    Ask out{next_id_++, std::move(queue_.front())};
    queue_.pop_front();
    under_way_.emplace(out.id, UnderWay{out.host, now + kLost});
    return out;
}

std::optional<NameTable::Failure> NameTable::answered(std::uint32_t id, NameAnswer answer, Instant now) {
    const auto found = under_way_.find(id);
    if (found == under_way_.end()) return std::nullopt;
    const UnderWay look_up = std::move(found->second);
    under_way_.erase(found);
    if (answer.outcome != NameOutcome::found || answer.addresses.empty()) {
        const bool empty = answer.outcome == NameOutcome::found;
        return lost(look_up, empty ? NameOutcome::unknown : answer.outcome, now);
    }
    Name& name = names_[look_up.host];
    name.addresses = std::move(answer.addresses);
    name.silent = false;
    name.checked = now;
    name.wanted.reset();
    release(name, Instant::max(), NameOutcome::found);
    return std::nullopt;
}

NameTable::Failure NameTable::lost(const UnderWay& look_up, NameOutcome why, Instant now) {
    Name& name = names_[look_up.host];
    name.silent = why == NameOutcome::no_answer;
    name.checked = now;
    name.wanted.reset();
    release(name, Instant::max(), why);
    return {look_up.host, why, !name.addresses.empty()};
}

NameAnswer NameTable::stale_or(const Name& name, NameOutcome otherwise) {
    if (name.addresses.empty()) return {otherwise, {}};
    return {NameOutcome::found, name.addresses};
}

// Answers those whose time is over at `now`.
void NameTable::release(Name& name, Instant now, NameOutcome otherwise) {
    while (!name.waiting.empty() && name.waiting.front().until <= now) {
        auto handler = std::move(name.waiting.front().handler);
        name.waiting.pop_front();
        --waiting_;
        handler(stale_or(name, otherwise));
    }
}

std::vector<NameTable::Failure> NameTable::advance(Instant now) {
    std::vector<Failure> out;
    for (auto next = under_way_.begin(); next != under_way_.end();) {
        release(names_[next->second.host], now, NameOutcome::no_answer);
        if (now < next->second.lost_at) {
            ++next;
            continue;
        }
        out.push_back(lost(next->second, NameOutcome::no_answer, now));
        next = under_way_.erase(next);
    }
    for (const std::string& host : queue_) release(names_[host], now, NameOutcome::busy);
    return out;
}

Deadline NameTable::next_deadline() const {
    Deadline out;
    const auto consider = [&](Instant at) { out = out ? std::min(*out, at) : at; };
    const auto consider_name = [&](const std::string& host) {
        const auto name = names_.find(host);
        if (name != names_.end() && !name->second.waiting.empty())
            consider(name->second.waiting.front().until);
    };
    for (const auto& [id, look_up] : under_way_) {
        consider(look_up.lost_at);
        consider_name(look_up.host);
    }
    for (const std::string& host : queue_) consider_name(host);
    return out;
}

void NameTable::keep(const std::set<std::string>& hosts) {
    std::erase_if(names_, [&](const auto& entry) {
        const auto& [host, name] = entry;
        return !hosts.contains(host) && !name.wanted && name.waiting.empty();
    });
}

}  // namespace curvegate::daemon::front
