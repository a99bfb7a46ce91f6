#include "instance.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>

#include "errors.hpp"
#include "loader.hpp"

namespace tlite {
namespace {

constexpr const char* kValidationLayer = "VK_LAYER_KHRONOS_validation";
constexpr const char* kPortability = "VK_KHR_portability_enumeration";
constexpr const char* kNoDriver =
    "no Vulkan driver was found; a GPU's own driver brings one, and a CPU one comes with: "
    "apt-get install mesa-vulkan-drivers";

/// Whether a layer older than the driver merely says that it does not know an extension (Debian 12's and
/// VK_KHR_cooperative_matrix).
bool only_says_it_is_old(const char* text) {
    return std::strstr(text, "added to a later version of the Vulkan header") ||
           std::strstr(text, "is not supported by this layer");
}

VKAPI_ATTR VkBool32 VKAPI_CALL collect(VkDebugUtilsMessageSeverityFlagBitsEXT, VkDebugUtilsMessageTypeFlagsEXT,
                                       const VkDebugUtilsMessengerCallbackDataEXT* data, void* user) {
    if (!only_says_it_is_old(data->pMessage)) static_cast<Instance*>(user)->add_message(data->pMessage);
    return VK_FALSE;
}

VkDebugUtilsMessengerCreateInfoEXT messenger_info(Instance* user) {
    VkDebugUtilsMessengerCreateInfoEXT info{VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT};
    info.messageSeverity =
        VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
    info.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
    info.pfnUserCallback = collect;
    info.pUserData = user;
    return info;
}

bool offers(const char* extension) {
    auto all = vk::enumerateInstanceExtensionProperties();
    return std::any_of(all.begin(), all.end(),
                       [&](const auto& e) { return std::strcmp(e.extensionName, extension) == 0; });
}

} // namespace

Instance::Instance(bool validation, std::string log) : log_(std::move(log)) {
    if (!log_.empty() && !std::ofstream(log_, std::ios::app))
        fail("cannot write validation messages to ", log_, "; TLITE_VK_VALIDATION must be 1 or a file");
    open_loader();
    api_version_ = std::min<uint32_t>(vk::enumerateInstanceVersion(), VK_API_VERSION_1_3);
    vk::ApplicationInfo application("tlite-vk", 1, "kompute", 9, api_version_);
    vk::InstanceCreateInfo info({}, &application);

    std::vector<const char*> layers, extensions;
    if (offers(kPortability)) {
        extensions.push_back(kPortability);
        info.flags |= static_cast<vk::InstanceCreateFlagBits>(0x1); // ENUMERATE_PORTABILITY_KHR
    }
    VkDebugUtilsMessengerCreateInfoEXT messenger = messenger_info(this);
    auto sync = vk::ValidationFeatureEnableEXT::eSynchronizationValidation;
    vk::ValidationFeaturesEXT checks(sync);
    if (validation) {
        check_validation_layer();
        layers.push_back(kValidationLayer);
        extensions.push_back(VK_EXT_DEBUG_UTILS_EXTENSION_NAME);
        checks.pNext = &messenger;
        info.pNext = &checks;
    }
    info.setPEnabledLayerNames(layers).setPEnabledExtensionNames(extensions);
    try {
        handle_ = vk::createInstance(info);
    } catch (const vk::IncompatibleDriverError&) {
        fail(kNoDriver);
    }
    load_functions(handle_);
    if (validation) {
        auto create =
            reinterpret_cast<PFN_vkCreateDebugUtilsMessengerEXT>(handle_.getProcAddr("vkCreateDebugUtilsMessengerEXT"));
        if (!create || create(handle_, &messenger, nullptr, &messenger_) != VK_SUCCESS) messenger_ = VK_NULL_HANDLE;
    }
}

Instance::~Instance() {
    if (messenger_) {
        auto destroy = reinterpret_cast<PFN_vkDestroyDebugUtilsMessengerEXT>(
            handle_.getProcAddr("vkDestroyDebugUtilsMessengerEXT"));
        if (destroy) destroy(handle_, messenger_, nullptr);
    }
    if (handle_) handle_.destroy();
}

void Instance::check_validation_layer() const {
    for (const auto& layer : vk::enumerateInstanceLayerProperties())
        if (std::strcmp(layer.layerName, kValidationLayer) == 0) return;
    fail("the Khronos validation layer is not installed; try: apt-get install vulkan-validationlayers");
}

std::vector<vk::PhysicalDevice> Instance::devices() const {
    std::vector<vk::PhysicalDevice> found;
    try {
        found = handle_.enumeratePhysicalDevices();
    } catch (const vk::SystemError&) { // drivers that are there but fail to start
    }
    found.erase(std::remove_if(found.begin(), found.end(),
                               [](const auto& d) { return d.getProperties().apiVersion < VK_API_VERSION_1_1; }),
                found.end());
    if (found.empty()) fail(kNoDriver);
    return found;
}

vk::PhysicalDevice Instance::device(int64_t index) const {
    auto all = devices();
    if (index >= 0 && index < static_cast<int64_t>(all.size())) return all[static_cast<size_t>(index)];
    std::string names;
    for (size_t i = 0; i < all.size(); ++i)
        names += (i ? ", " : "") + std::to_string(i) + " = " + all[i].getProperties().deviceName.data();
    fail("there is no device ", index, "; choose one of: ", names);
}

void Instance::add_message(const char* text) {
    std::lock_guard<std::mutex> lock(mutex_);
    messages_.emplace_back(text);
    if (!log_.empty()) std::ofstream(log_, std::ios::app) << text << std::endl;
}

std::vector<std::string> Instance::messages() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return messages_;
}

void Instance::clear_messages() {
    std::lock_guard<std::mutex> lock(mutex_);
    messages_.clear();
}

} // namespace tlite
