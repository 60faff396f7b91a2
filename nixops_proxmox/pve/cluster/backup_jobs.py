"""The backup jobs of a cluster."""

from collections.abc import Mapping, Sequence

from nixops_proxmox.pve.api.client import PveClient


class BackupJobs:
    """Satisfies `kinds.backup_job.kind.JobStore`."""

    def __init__(self, client: PveClient) -> None:
        self._client = client

    def find(self, job: str, /) -> Mapping[str, str] | None:
        """Who may not see jobs gets a refusal, so that "there is none" is certain."""
        return self._client.list_backup_jobs().get(job)

    def create(self, job: str, settings: Mapping[str, str], /) -> None:
        self._client.create_backup_job(job, settings)

    def change(self, job: str, settings: Mapping[str, str], gone: Sequence[str], /) -> None:
        self._client.change_backup_job(job, settings, gone)

    def delete(self, job: str, /) -> None:
        if self.find(job) is not None:
            self._client.delete_backup_job(job)
