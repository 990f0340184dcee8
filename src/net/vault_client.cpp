#include "net/vault_client.hpp"

#include <boost/asio/post.hpp>

#include <cerrno>

namespace curvegate::net {

VaultClient::VaultClient(asio::io_context& context, Duration timeout, Detached detached)
    : context_(context), timeout_(timeout), detached_(detached), socket_(context), sweeper_(context) {}

VaultClient::~VaultClient() {
    on_lost = nullptr;
    detach();
    ++*life_;
}

void VaultClient::attach(os::UniqueFd fd) {
    if (socket_.is_open()) lose(VaultErrc::lost);
    error_code error;
    socket_.assign(asio::generic::seq_packet_protocol(AF_UNIX, 0), fd.get(), error);
    if (error) return;
    (void)fd.release();
    socket_.non_blocking(true, error);
    ++*life_;
    wait_readable();
    if (!pending_.empty()) start_sweeping();
    flush();
    send_hellos();
}

void VaultClient::ask(const vault::RequestBody& body, Handler handler) {
    const auto refuse = [&](VaultErrc why) {
        asio::post(context_, [why, handler = std::move(handler)]() mutable { handler(fail(why)); });
    };
    if (!socket_.is_open() && detached_ == Detached::fail) return refuse(VaultErrc::lost);
    if (pending_.size() >= kMaxPending) return refuse(VaultErrc::too_many);
    while (pending_.contains(next_id_)) ++next_id_;
    const vault::RequestId id{next_id_++};
    if (pending_.empty()) start_sweeping();
    pending_.emplace(id.value,
                     Pending{std::move(handler), std::chrono::steady_clock::now(), verb_of(body), false});
    if (const auto* hello = std::get_if<vault::AnswerHello>(&body)) {
        hellos_.push_back({id.value, *hello});
        send_hellos();
    } else {
        send({id, body});
    }
}

// In turn; under load the newest first, since the oldest would be answered too late for their clients.
void VaultClient::send_hellos() {
    while (socket_.is_open() && hellos_sent_ < kMaxHellos && !hellos_.empty()) {
        const bool newest = busy();
        const Waiting next = newest ? hellos_.back() : hellos_.front();
        if (newest) {
            hellos_.pop_back();
        } else {
            hellos_.pop_front();
        }
        const auto pending = pending_.find(next.id);
        if (pending == pending_.end()) continue;  // given up in the meantime
        pending->second.hello_sent = true;
        ++hellos_sent_;
        send({vault::RequestId{next.id}, next.request});
    }
}

void VaultClient::send(const vault::Request& request) {
    vault::MessageBuffer buffer;
    const Bytes message = serialise(request, buffer);
    unsent_.emplace_back(message.begin(), message.end());
    flush();
}

VaultClient::Handler VaultClient::take(std::unordered_map<std::uint32_t, Pending>::iterator pending) {
    if (pending->second.hello_sent) --hellos_sent_;
    auto handler = std::move(pending->second.handler);
    pending_.erase(pending);
    return handler;
}

void VaultClient::flush() {
    while (!writing_ && !unsent_.empty() && socket_.is_open()) {
        const auto& message = unsent_.front();
        const auto sent =
            ::send(socket_.native_handle(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            writing_ = true;
            socket_.async_wait(Socket::wait_write,
                               [this, life = life_, generation = *life_](error_code error) {
                                   if (error || generation != *life) return;
                                   writing_ = false;
                                   flush();
                               });
            return;
        }
        if (sent < 0) {
            // Not from within ask(): the handlers of all that wait are about to run.
            asio::post(context_, [this, life = life_, generation = *life_] {
                if (generation == *life && socket_.is_open()) lose(VaultErrc::lost);
            });
            return;
        }
        unsent_.pop_front();
    }
}

void VaultClient::wait_readable() {
    socket_.async_wait(Socket::wait_read, [this, life = life_, generation = *life_](error_code error) {
        if (error || generation != *life) return;
        read_all();
    });
}

void VaultClient::read_all() {
    const auto life = life_;
    const auto generation = *life;
    vault::MessageBuffer buffer;
    while (generation == *life && socket_.is_open()) {
        auto received = os::receive_message(socket_.native_handle(), buffer);
        if (received && !*received) return wait_readable();
        if (!received || (*received)->size == 0) return lose(VaultErrc::lost);
        deliver(Bytes(buffer).first((*received)->size));
    }
}

void VaultClient::deliver(Bytes message) {
    auto reply = vault::parse_reply(message);
    if (!reply) return lose(VaultErrc::malformed);
    const auto found = pending_.find(reply->id.value);
    if (found == pending_.end()) return;  // answered too late: its asker is gone
    if (verb_of(reply->body) != found->second.verb) return lose(VaultErrc::malformed);
    auto handler = take(found);
    send_hellos();
    handler(reply->body);
}

void VaultClient::lose(VaultErrc why) {
    error_code ignored;
    socket_.close(ignored);
    ++*life_;
    writing_ = false;
    unsent_.clear();
    hellos_.clear();
    hellos_sent_ = 0;
    sweeper_.cancel();
    auto orphans = std::exchange(pending_, {});
    if (on_lost) on_lost(describe(why));
    for (auto& [id, pending] : orphans) pending.handler(fail(why));
}

void VaultClient::start_sweeping() {
    sweeper_.expires_after(timeout_);
    sweep();
}

void VaultClient::sweep() {
    sweeper_.async_wait([this, life = life_, generation = *life_](error_code error) {
        if (error || generation != *life) return;
        const Instant now = std::chrono::steady_clock::now();
        std::vector<Handler> late;
        for (auto item = pending_.begin(); item != pending_.end();) {
            if (now - item->second.asked < timeout_) {
                ++item;
                continue;
            }
            late.push_back(take(item++));
        }
        send_hellos();
        for (auto& handler : late) handler(fail(VaultErrc::too_slow));
        if (generation != *life || pending_.empty()) return;
        sweeper_.expires_after(std::max<Duration>(timeout_ / 4, std::chrono::milliseconds(10)));
        sweep();
    });
}

}  // namespace curvegate::net
