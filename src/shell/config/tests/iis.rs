//! The table for those who come from IIS, against the keys that exist and the attributes that IIS has.

use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/iis.md");

/// Sections and their attributes, of machine.config and of the schema of applicationHost.config.
#[rustfmt::skip] // A row a section.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("processModel of machine.config", "enable timeout idleTimeout shutDownTimeout requestLimit requestQueueLimit restartQueueLimit memoryLimit webGarden cpuMask userName password logLevel clientConnectedCheck comAuthenticationLevel comImpersonationLevel responseDeadlockInterval responseRestartDeadlockInterval maxWorkerThreads maxIoThreads serverErrorMessageFile pingFrequency pingTimeout autoConfig maxAppDomains minWorkerThreads minIoThreads"),
    ("applicationPools/add", "name queueLength autoStart enable32BitAppOnWin64 enableEmulationOnWinArm64 managedRuntimeVersion managedRuntimeLoader enableConfigurationOverride managedPipelineMode CLRConfigFile passAnonymousToken startMode state applicationPoolSid Start Stop Recycle"),
    ("processModel", "identityType userName password loadUserProfile setProfileEnvironment logonType manualGroupMembership idleTimeout idleTimeoutAction maxProcesses shutdownTimeLimit startupTimeLimit pingingEnabled pingInterval pingResponseTime logEventOnProcessModel requestQueueDelegatorIdentity"),
    ("recycling", "disallowOverlappingRotation disallowRotationOnConfigChange logEventOnRecycle memory privateMemory requests time schedule"),
    ("failure", "loadBalancerCapabilities orphanWorkerProcess orphanActionExe orphanActionParams rapidFailProtection rapidFailProtectionInterval rapidFailProtectionMaxCrashes autoShutdownExe autoShutdownParams"),
    ("cpu", "limit action resetInterval smpAffinitized smpProcessorAffinityMask smpProcessorAffinityMask2 processorGroup numaNodeAssignment numaNodeAffinityMode"),
    ("environmentVariables", "name value remove"),
    ("workerProcesses", "processId guid state appPoolName GetRequests appDomains GetCustomData FlushTokenCache"),
    ("webLimits", "maxGlobalBandwidth connectionTimeout demandStartThreshold dynamicIdleThreshold headerWaitTimeout minBytesPerSecond dynamicRegistrationThreshold"),
    ("site", "name id serverAutoStart maxBandwidth maxConnections connectionTimeout maxUrlSegments protocol bindingInformation sslFlags"),
    ("application", "path applicationPool enabledProtocols serviceAutoStartEnabled serviceAutoStartProvider preloadEnabled applicationInitialization"),
    ("logFile", "logFormat directory period truncateSize localTimeRollover flushByEntryCountW3CLog maxLogLineLength logExtFileFlags dontLog selectiveLogging"),
    ("traceFailedRequestsLogging", "enabled maxLogFiles maxLogFileSizeKB customActionsEnabled"),
    ("configHistory", "enabled maxHistories period"),
    ("serverRuntime", "listenerAdapters serviceAutoStartProviders caching appConcurrentRequestLimit maxRequestEntityAllowed uploadReadAheadSize frequentHitThreshold frequentHitTimePeriod enableNagling"),
    ("httpPlatform", "processPath arguments startupTimeLimit startupRetryCount rapidFailsPerMinute requestTimeout processesPerApplication stdoutLogEnabled stdoutLogFile forwardWindowsAuthToken recycleOnFileChange environmentVariables"),
];

/// The cells of a row of a table.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn every_attribute_has_its_key_or_a_reason() {
    let (chapters, count) = (DOCUMENT.split("\n## ").skip(1), ATTRIBUTES.len());
    assert_eq!(chapters.clone().count(), count);
    for (chapter, (section, attributes)) in chapters.zip(ATTRIBUTES) {
        assert_eq!(chapter.lines().next(), Some(*section));
        let rows: Vec<_> =
            chapter.lines().filter(|line| line.starts_with('|')).skip(2).map(cells).collect();
        let told: Vec<&str> = rows.iter().map(|row| row[0]).collect();
        assert_eq!(told, attributes.split(' ').collect::<Vec<_>>(), "{section}");
        for row in rows {
            let [attribute, key, remark] = row[..] else { panic!("{row:?}") };
            assert!(key != "none" || !remark.is_empty(), "{section} {attribute}: why not?");
            assert!(key == "none" || key.starts_with('`'), "{section} {attribute}: {key}");
            for named in key.split('`').skip(1).step_by(2) {
                let is_known = |key: &Key| key.path == named && key.form != Form::Later;
                assert!(KEYS.iter().any(is_known), "{section} {attribute}: {named}");
            }
        }
    }
}

#[test]
fn what_looks_like_a_key_is_one() {
    let quoted = DOCUMENT.split('`').skip(1).step_by(2);
    let tops = ["server.", "listen.", "site.", "pool."];
    for named in quoted.filter(|text| tops.iter().any(|top| text.starts_with(top))) {
        assert!(KEYS.iter().any(|key| key.path == named), "{named}");
    }
}
