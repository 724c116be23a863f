"""A reading as a DICOM structured report (TID 1500, "Measurement Report"), by highdicom.

Imported only where one is asked for: highdicom is an extra.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import highdicom as hd
import pydicom
from highdicom import sr
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes
from pydicom.uid import UID
from pydicom.valuerep import validate_value

from greenrfm.bundle import Bundle
from greenrfm.errors import UserError
from greenrfm.files import replacing
from greenrfm.findings import Finding
from greenrfm.results.result import Result, Score
from greenrfm.volumes.facts import image_files

# Our own codes, where no terminology that we have seen has one; DICOM wants "99" before a private scheme.
SCHEME = "99GREENRFM"
MAKER = "GreenRFM"
PROBABILITY = codes.DCM.Probability
CALL = sr.CodedConcept("CALL", SCHEME, "Call by the bundle's thresholds")
CALLS = {
    "present": codes.SCT.Present,
    "absent": codes.SCT.Absent,
    "indeterminate": codes.SCT.Indeterminate,
}
_PROCEDURES = {"CT": codes.LN.CTUnspecifiedBodyRegion, "MR": codes.LN.MRIUnspecifiedBodyRegion}
_SERIES_NUMBER = 9500
UTF_8 = "ISO_IR 192"
# Of the source's headers: what must be there with a value, and what may be empty but must be there (type 2).
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
)
_NAME = uuid.UUID("6a0c5b1e-3f53-4c39-9d3a-0f6f6f2a6d51")


def write_structured_report(result: Result, bundle: Bundle, images: Sequence[Path], path: Path) -> None:
    """Write the reading of DICOM series as a Comprehensive SR to `path`, in one step.

    Patient and study are copied from the source's headers, every image of the series is referenced; each finding is
    a measurement group with its code, its calibrated probability in percent and its call. A reading whose scores are
    withheld becomes a report that says so, with the completion flag PARTIAL. The same reading gives the same report
    and UIDs; one that is there already is left alone.

    Raises UserError, in one sentence, if the source is not DICOM or its headers cannot carry a report.
    """
    if _instance(path) == _uid("instance", result.key, result.read_at):
        return
    headers = _headers(result, images)
    lacking = [name for name in _NEEDED if not headers[0].get(name)]
    lacking = lacking or [
        name for name in _NEEDED if name.endswith("UID") and not UID(str(headers[0][name].value)).is_valid
    ]
    if lacking:
        raise _refused(result, f"lack a valid {', '.join(lacking)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom's quote the patient's name
            report = _report(result, bundle, headers)
            with replacing(path) as temporary:
                report.save_as(temporary, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise _refused(result, f"hold what DICOM forbids{_forbidden(headers[0])}") from error


def _refused(result: Result, what: str) -> UserError:
    return UserError(
        f"study {result.study_id} gets no structured report: the headers of its DICOM series {what}; "
        "export the series again from the archive"
    )


def _forbidden(header: Dataset) -> str:
    """Return which of the attributes that a report copies have a value that DICOM forbids; never the value itself."""
    wrong = []
    for name in (*_NEEDED, *_MAY_BE_EMPTY):
        try:
            if name in header:
                validate_value(header[name].VR, header[name].value, pydicom.config.RAISE)
        except (ValueError, TypeError):
            wrong.append(name)
    return f" ({', '.join(wrong)})" if wrong else ""


def _instance(path: Path) -> str:
    """Return the SOP instance UID of a report that is there already, "" if none is."""
    try:
        return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).get("SOPInstanceUID", ""))
    except (OSError, InvalidDicomError):
        return ""


def _headers(result: Result, images: Sequence[Path]) -> list[Dataset]:
    """Return the headers of the series that were read, each instance once."""
    found: dict[str, Dataset] = {}
    for file in (file for image in images for file in image_files(image)):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except (InvalidDicomError, OSError):
            continue
        # Several images are the series of one MR study; a folder alone may hold series that were not read.
        is_read = len(images) > 1 or result.series_uid in ("", header.get("SeriesInstanceUID"))
        if "Rows" in header and is_read:
            for name in _MAY_BE_EMPTY:
                if name not in header:
                    setattr(header, name, "")
            found.setdefault(str(header.get("SOPInstanceUID")), header)
    if not found:
        raise UserError(
            f"study {result.study_id} gets no structured report: {result.source} is no DICOM series that one could "
            "refer to; read the DICOM files instead, or leave --sr out"
        )
    return sorted(found.values(), key=_number)


def _number(header: Dataset) -> int:
    try:
        return int(header.get("InstanceNumber") or 0)
    except (ValueError, TypeError):
        return 0  # no number: the order is for the eye alone


def _report(result: Result, bundle: Bundle, headers: Sequence[Dataset]) -> sr.ComprehensiveSR:
    # Names of any script, and our own signs beside them; what the source's set cannot say would be lost.
    _check_character_set(headers[0])
    content = _content(result, bundle, headers)
    # TID 1500 is extensible: what every reader of the report must see stands at its top level.
    said = [*result.notice.splitlines(), *(f"Warning: {warning}." for warning in result.warnings)]
    if result.withheld:
        said.append(f"Scores withheld: {result.withheld}")
    for text in said:
        content[0].ContentSequence.append(
            sr.TextContentItem(name=codes.DCM.Comment, value=text, relationship_type=sr.RelationshipTypeValues.CONTAINS)
        )
    report = sr.ComprehensiveSR(
        evidence=headers,
        content=content[0],
        series_instance_uid=_uid("series", result.key),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=_uid("instance", result.key, result.read_at),
        instance_number=1,
        manufacturer=MAKER,
        is_complete=not result.withheld,
        is_final=False,
        is_verified=False,
        series_description="GreenRFM reading, not for diagnostic use",
        software_versions=result.software,
        specific_character_set=UTF_8,
    )
    # When it was read, not when this file was written: the same reading gives the same report.
    # In local time, as the times that are copied from the source.
    read_at = datetime.fromisoformat(result.read_at).astimezone()
    for name in ("Content", "InstanceCreation"):
        setattr(report, f"{name}Date", read_at.strftime("%Y%m%d"))
        setattr(report, f"{name}Time", read_at.strftime("%H%M%S"))
    report.CompletionFlagDescription = result.withheld[:64] if result.withheld else "All findings scored"
    return report


def _check_character_set(header: Dataset) -> None:
    """Raise ValueError if nobody knows in which character set the header's names are."""
    terms = header.get("SpecificCharacterSet") or ""
    for term in [terms] if isinstance(terms, str) else terms:
        # The first of several is empty where it is the default one, as in Japan.
        if term and term not in python_encoding:
            raise ValueError("character set")


def _content(result: Result, bundle: Bundle, headers: Sequence[Dataset]) -> sr.MeasurementReport:
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(result, bundle)),
        procedure_reported=_PROCEDURES.get(str(headers[0].get("Modality")), codes.LN.CTUnspecifiedBodyRegion),
        imaging_measurements=_groups(result, bundle),
        title=codes.DCM.ImagingMeasurementReport,
    )
    content[0].ContentSequence.insert(-1, _library(headers))  # before the measurements (TID 1500, row 6)
    return content


def _library(headers: Sequence[Dataset]) -> sr.ContainerContentItem:
    """Return the image library (TID 1600) without descriptors: those of highdicom cost seconds for a chest CT."""
    contains = sr.RelationshipTypeValues.CONTAINS
    group = sr.ContainerContentItem(name=codes.DCM.ImageLibraryGroup, relationship_type=contains)
    group.ContentSequence = sr.ContentSequence(
        [
            sr.ImageContentItem(
                name=codes.SCT.Source,
                referenced_sop_class_uid=header.SOPClassUID,
                referenced_sop_instance_uid=header.SOPInstanceUID,
                relationship_type=contains,
            )
            for header in headers
        ]
    )
    library = sr.ContainerContentItem(name=codes.DCM.ImageLibrary, template_id="1600", relationship_type=contains)
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _observer(result: Result, bundle: Bundle) -> sr.ObserverContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=_uid("device", bundle.hash, result.software),
        name=f"GreenRFM {result.software}",
        manufacturer_name=MAKER,
        model_name=bundle.manifest.name,
        serial_number=bundle.hash,
    )
    return sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)


def _groups(result: Result, bundle: Bundle) -> list[sr.MeasurementsAndQualitativeEvaluations]:
    """Return a group for each finding; for withheld scores one that names only the algorithm."""
    field = str(result.options.get("field", "padded"))
    algorithm = sr.AlgorithmIdentification(
        name=f"GreenRFM {bundle.manifest.name}",
        version=result.software,
        parameters=[
            f"bundle SHA-256 {bundle.hash}",
            f"field of view {field}",
            f"thresholds {bundle.manifest.thresholds.rule}",
        ],
        manufacturer=MAKER,
        family=codes.DCM.ArtificialIntelligence,
    )
    findings = {finding.key: finding for finding in bundle.findings.findings}
    groups = [_group(score, findings[score.key], algorithm, result) for score in result.scores]
    return groups or [
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=_uid("withheld", result.key), identifier="scores withheld"),
            algorithm_id=algorithm,
        )
    ]


def _group(
    score: Score, finding: Finding, algorithm: sr.AlgorithmIdentification, result: Result
) -> sr.MeasurementsAndQualitativeEvaluations:
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=_uid("finding", result.key, score.key), identifier=score.key),
        finding_type=finding_code(finding),
        algorithm_id=algorithm,
        measurements=[
            sr.Measurement(name=PROBABILITY, value=round(100 * score.probability, 4), unit=codes.UCUM.Percent)
        ],
        qualitative_evaluations=[sr.QualitativeEvaluation(name=CALL, value=CALLS[score.call])],
    )


def finding_code(finding: Finding) -> sr.CodedConcept:
    """Return the finding's first code, or our own by its key where the finding set has none."""
    if finding.codes:
        code = finding.codes[0]
        return sr.CodedConcept(code.value, code.scheme, code.meaning[:64])
    # Code values of more than 16 characters go into Long Code Value, which old receivers do not know.
    value = finding.key if len(finding.key) <= 16 else uuid.uuid5(_NAME, finding.key).hex[:16]
    return sr.CodedConcept(value, SCHEME, finding.name[:64])


def _uid(*parts: str) -> str:
    """Return a UID made of the parts: the same parts give the same one (DICOM PS3.5, B.2)."""
    return hd.UID(f"2.25.{uuid.uuid5(_NAME, ' '.join(parts)).int}")
